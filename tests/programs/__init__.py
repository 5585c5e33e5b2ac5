"""Real scalar programs, and random ones, that every way of running a program is tested on."""
