"""What a network believes about an image; its loss lives with it."""
