"""The job that users choose a library for, done by this project and by what they would pick instead, side by side."""
