"""What several test files share: made-up data, models and plugins."""
