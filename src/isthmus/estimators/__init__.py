"""The scikit-learn face of Isthmus: estimators that learn from arrays and give arrays back."""
