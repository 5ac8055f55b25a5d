"""What a model would take on a device that is not at hand: layers, roofline, fit, error."""
