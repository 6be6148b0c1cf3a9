"""Answers to numeric cases, a file a family."""
