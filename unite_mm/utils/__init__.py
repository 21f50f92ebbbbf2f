"""What every part of the core may use."""
