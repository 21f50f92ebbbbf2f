"""What the HTML report shows of images: a grid of samples, inputs and reconstructions under a slider."""
