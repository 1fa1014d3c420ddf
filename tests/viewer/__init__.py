"""Tests of the viewer, in headless Chromium."""
