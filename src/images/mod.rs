//! References, store, archives, unpacking, and the built-in image.
