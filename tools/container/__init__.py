"""The test container: a desktop for RDP, made of Debian packages."""
