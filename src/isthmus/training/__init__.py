"""From a network and images to a trained network and its history."""
