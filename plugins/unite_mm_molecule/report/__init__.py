"""What the HTML report shows of molecules: drawings, turning 3D views, reconstructions laid over their inputs."""
