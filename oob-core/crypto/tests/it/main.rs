//! What two devices can and cannot do to each other, through the public API.

mod contact;
mod fixture;
mod hostile;
mod joining;
mod people;
mod ratchet;
mod vectors;
