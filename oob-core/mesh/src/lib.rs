//! Who is near, and opaque frames to and from them
