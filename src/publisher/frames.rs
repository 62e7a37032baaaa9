//! Checks what the broker sends before amiquip sees it: amiquip allocates whatever size a frame or a message declares, and
//! takes the text of an HTTP server for a frame of a gigabyte.
//!
//! Pure: bytes in, the number of bytes to pass on out.

/// The `frame-max` to propose, RabbitMQ's default. The negotiated one can only be lower.
pub const MAX_FRAME_BYTES: u32 = 128 << 10;

/// A frame's header and end octet, which `frame-max` includes.
const OVERHEAD_BYTES: u32 = 8;

/// For frames other than those with a message's body. AMQP allows 4 KiB before `frame-max` is negotiated; afterwards
/// nothing longer is expected. It also bounds how deep tables can be nested, which amiquip parses by recursion.
const MAX_METHOD_BYTES: u32 = (4 << 10) - OVERHEAD_BYTES;

/// The only messages received are returned events.
const MAX_MESSAGE_BYTES: u64 = 2 << 20;

/// Class, weight and the message's size, at the beginning of a content header.
const CONTENT_HEADER_BYTES: usize = 12;

/// Why the stream is not passed on any further.
pub type Refusal = &'static str;

const NOT_AMQP: Refusal =
    "the server does not speak AMQP; this may not be the AMQP port (5672, 5671 with TLS)";
const INVALID_FRAME: Refusal = "the server sent an invalid frame";

/// Follows the frames of one connection.
#[derive(Debug, Default)]
pub struct FrameCheck {
    /// What has come of the current frame's header, or of a content header.
    header: Vec<u8>,
    /// Bytes of the current frame behind its header, the end octet included.
    rest: usize,
    has_frame: bool,
    refusal: Option<Refusal>,
}

impl FrameCheck {
    /// Checks bytes in the order in which they come, and returns how many of them may be passed on; why there are none, after
    /// the last valid ones have been, also where no more bytes come.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut accepted = 0;
        while accepted < bytes.len() && self.refusal.is_none() {
            if self.rest > 0 {
                let part = self.rest.min(bytes.len() - accepted);
                self.rest -= part;
                accepted += part;
                continue;
            }
            self.header.push(bytes[accepted]);
            match self.check_header() {
                Ok(()) => accepted += 1,
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
        match self.refusal {
            Some(refusal) if accepted == 0 => Err(refusal),
            _ => Ok(accepted),
        }
    }

    fn check_header(&mut self) -> Result<(), Refusal> {
        match self.header.as_slice() {
            [1..=3 | 8] => return Ok(()),
            // The protocol header of the version that the server requires.
            [b'A'] if !self.has_frame => return Err("the server does not support AMQP 0-9-1"),
            // A TLS alert.
            [0x15] if !self.has_frame => return Err("the server requires TLS: use amqps://"),
            [_] if !self.has_frame => return Err(NOT_AMQP),
            [_] => return Err(INVALID_FRAME),
            _ => {}
        }
        let &[kind, _, _, a, b, c, d, ref content @ ..] = self.header.as_slice() else {
            return Ok(());
        };
        let size = u32::from_be_bytes([a, b, c, d]);
        let limit = if kind == 3 {
            MAX_FRAME_BYTES - OVERHEAD_BYTES
        } else {
            MAX_METHOD_BYTES
        };
        if size > limit {
            return Err("the server sent a frame above the negotiated size");
        }
        let size = size as usize;
        if kind == 2 {
            if size < CONTENT_HEADER_BYTES {
                return Err(INVALID_FRAME);
            }
            let Some(message_size) = content.get(4..).and_then(<[u8]>::first_chunk) else {
                return Ok(());
            };
            if u64::from_be_bytes(*message_size) > MAX_MESSAGE_BYTES {
                return Err("the server sent a message above the size of any event");
            }
        }
        (self.rest, self.has_frame) = (size - content.len() + 1, true);
        self.header.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, size: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 1];
        bytes.extend(size.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn valid(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = frame(kind, u32::try_from(length).unwrap(), &vec![0; length]);
        bytes.push(0xce);
        bytes
    }

    /// Passes bytes through in parts of a size: what came out, and the refusal.
    fn pass(bytes: &[u8], part: usize) -> (usize, Option<Refusal>) {
        let (mut check, mut passed) = (FrameCheck::default(), 0);
        for chunk in bytes.chunks(part) {
            let mut rest = chunk;
            while !rest.is_empty() {
                match check.accept(rest) {
                    Ok(count) => {
                        passed += count;
                        rest = &rest[count..];
                    }
                    Err(refusal) => return (passed, Some(refusal)),
                }
            }
        }
        (passed, None)
    }

    #[test]
    fn what_is_not_amqp_or_too_large_is_refused_and_what_came_before_is_not() {
        let good = [valid(1, 40), valid(2, 30), valid(3, 100_000), valid(8, 0)].concat();
        let huge_message = [&[0, 60, 0, 0][..], &(3_u64 << 20).to_be_bytes()].concat();
        for (bytes, passes, hint) in [
            (
                b"AMQP\0\0\x09\x01".to_vec(),
                0,
                "does not support AMQP 0-9-1",
            ),
            (
                b"HTTP/1.1 400 Bad Request".to_vec(),
                0,
                "does not speak AMQP",
            ),
            (vec![0x15, 3, 3, 0, 2], 0, "use amqps://"),
            ([&good[..], b"H"].concat(), good.len(), "invalid frame"),
            (frame(1, 2 << 30, &[]), 6, "negotiated size"),
            (frame(1, 4089, &[]), 6, "negotiated size"),
            (frame(3, (128 << 10) - 7, &[]), 6, "negotiated size"),
            (frame(2, 30, &huge_message), 18, "size of any event"),
            (frame(2, 11, &[]), 6, "invalid frame"),
            (
                [&good[..], &frame(3, u32::MAX, &[])].concat(),
                good.len() + 6,
                "negotiated size",
            ),
        ] {
            for part in [1, 5, 1 << 20] {
                let (passed, refusal) = pass(&bytes, part);
                assert_eq!(passed, passes, "{hint}, in parts of {part}");
                assert!(refusal.unwrap().contains(hint), "{refusal:?}, not {hint}");
            }
        }
        assert_eq!(pass(&good, 7), (good.len(), None));
        let mut check = FrameCheck::default();
        assert_eq!(check.accept(&frame(1, 2 << 30, &[])), Ok(6));
        assert!(check.accept(&[]).is_err());
    }

    proptest! {
        #[test]
        fn valid_frames_pass_whatever_their_parts(
            frames in vec((prop_oneof![Just(1_u8), Just(2), Just(3), Just(8)], 12_usize..4089), 0..20), part in 1_usize..6000,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, length)| valid(*kind, *length)).collect();
            prop_assert_eq!(pass(&bytes, part), (bytes.len(), None));
        }

        #[test]
        fn any_bytes_are_refused_or_passed_in_the_same_places_whatever_their_parts(
            bytes in vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(3), any::<u8>()], 0..200), part in 1_usize..50,
        ) {
            prop_assert_eq!(pass(&bytes, part), pass(&bytes, 1 << 20));
        }
    }
}
