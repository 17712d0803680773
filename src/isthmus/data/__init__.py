"""Images from anywhere become one `ImageSet`; everything later in Isthmus starts from it."""
