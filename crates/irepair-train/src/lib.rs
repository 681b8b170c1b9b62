//! The one training engine: draw, localise, freeze, forward, backward, clip, update, validate, save.
