"""Images: ImageNet, CIFAR-10 and one's own. Import nothing here: discovery must stay free of implementations."""
