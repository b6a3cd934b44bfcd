//! Any bytes may come from outside; none may panic, and what was written reads back.

use oob_proto::{
    Message, limits,
    wire::{Envelope, Frame, FrameError, Op, Signed, frame::Kind},
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Frame::read(&bytes);
        let _ = oob_proto::link::from_text(&String::from_utf8_lossy(&bytes), |_| [0; 32]);
    }

    #[test]
    fn a_frame_reads_back(head in prop::collection::vec(any::<u8>(), 0..64), ct in prop::collection::vec(any::<u8>(), 0..4096), age: u32) {
        let mut frame = Frame::new(Kind::Envelope(Envelope { head, origin: vec![1; 104], ct }));
        frame.age = age;
        prop_assert_eq!(Frame::read(&frame.encode_to_vec()).unwrap(), frame);
    }

    #[test]
    fn signed_bytes_travel_untouched(payload in prop::collection::vec(any::<u8>(), 0..512)) {
        let op = Op { header: Some(Signed { payload: payload.clone(), sigs: vec![] }), body: vec![] };
        let back = Op::decode(op.encode_to_vec().as_slice()).unwrap();
        prop_assert_eq!(back.header.unwrap().payload, payload);
    }
}

#[test]
fn a_frame_too_long_is_refused_before_it_is_read() {
    let bytes = vec![0; limits::FRAME_BYTES + 1];
    assert!(matches!(Frame::read(&bytes), Err(FrameError::TooLong { .. })));
    assert!(matches!(Frame::read(&[]), Err(FrameError::UnknownKind)));
}
