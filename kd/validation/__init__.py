"""What is wrong with a configuration, subject by subject: each check yields one line a mistake."""
