"""The studies: each computes and returns results, and draws nothing."""
