"""The harness itself: that it finds what is wrong, and that its faults do what they say."""
