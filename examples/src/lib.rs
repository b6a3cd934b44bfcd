//! Small programs that embed oob; see the `[[example]]` files.
