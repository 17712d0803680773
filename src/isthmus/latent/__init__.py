"""What the code knows: neighbours, overlap of classes, the manifold the decoder draws."""
