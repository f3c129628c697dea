"""What connects the book's objects with other libraries; each module imports its library late."""
