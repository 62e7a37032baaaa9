//! A TCP relay in front of a broker that hands every AMQP frame to a test, which forwards, holds, changes or drops it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::broker::Admin;

/// Handles the frames of one direction of one connection. It writes what is to arrive to the receiver's socket. An error ends the
/// connection.
pub type Handler = Box<dyn FnMut(&[u8], &TcpStream) -> std::io::Result<()> + Send>;

/// The handlers of one connection.
pub struct Handlers {
    pub to_broker: Handler,
    pub to_client: Handler,
    /// Called when both directions have ended, and the broker has closed its end.
    pub ended: Box<dyn FnOnce() + Send>,
}

/// A handler that changes nothing.
pub fn forward() -> Handler {
    Box::new(|frame, mut to| to.write_all(frame))
}

impl Default for Handlers {
    fn default() -> Self {
        Self::to_client(forward())
    }
}

impl Handlers {
    pub fn new(
        to_broker: impl FnMut(&[u8], &TcpStream) -> std::io::Result<()> + Send + 'static,
        to_client: impl FnMut(&[u8], &TcpStream) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        Self {
            to_broker: Box::new(to_broker),
            to_client: Box::new(to_client),
            ended: Box::new(|| ()),
        }
    }

    /// Only the frames of the broker are handled.
    pub fn to_client(
        to_client: impl FnMut(&[u8], &TcpStream) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        Self::new(forward(), to_client)
    }
}

/// Starts a relay to an administrator's virtual host, and returns the URL for the connector.
pub fn url(admin: &Admin, connect: impl FnMut(usize) -> Handlers + Send + 'static) -> String {
    let relay = start("127.0.0.1:0", admin.port, connect);
    super::broker::url(relay.port(), &admin.vhost)
}

/// Starts a relay to a port of 127.0.0.1 and returns its address. `connect` makes the handlers of each connection from its number.
pub fn start(
    listen: &str,
    broker: u16,
    mut connect: impl FnMut(usize) -> Handlers + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(listen).unwrap();
    let address = listener.local_addr().unwrap();
    let target = SocketAddr::from(([127, 0, 0, 1], broker));
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let Ok(broker) = TcpStream::connect(target) else {
                continue;
            };
            let handlers = connect(number);
            thread::spawn(move || relay(&client, &broker, handlers));
        }
    });
    address
}

fn relay(client: &TcpStream, broker: &TcpStream, handlers: Handlers) {
    client.set_nodelay(true).unwrap();
    broker.set_nodelay(true).unwrap();
    let Handlers {
        mut to_broker,
        mut to_client,
        ended,
    } = handlers;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = pass_frames(broker, client, &mut to_client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = std::io::copy(&mut &*broker, &mut std::io::sink());
        });
        let mut protocol = [0; 8];
        let started = (&*client)
            .read_exact(&mut protocol)
            .and_then(|()| (&*broker).write_all(&protocol));
        let _ = started.and_then(|()| pass_frames(client, broker, &mut to_broker));
        let _ = broker.shutdown(Shutdown::Write);
    });
    ended();
}

/// Ends with an error, at the latest at the end of the stream.
fn pass_frames(mut from: &TcpStream, to: &TcpStream, handler: &mut Handler) -> std::io::Result<()> {
    loop {
        let mut frame = vec![0; 7];
        from.read_exact(&mut frame)?;
        let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]);
        frame.resize(7 + size as usize + 1, 0);
        from.read_exact(&mut frame[7..])?;
        handler(&frame, to)?;
    }
}

/// A method frame of the class `basic` with this method.
fn is_basic(frame: &[u8], method: u8) -> bool {
    frame[0] == 1 && frame[7..11] == [0, 60, 0, method]
}

/// A message begins with this frame.
pub fn is_publish(frame: &[u8]) -> bool {
    is_basic(frame, 40)
}

/// The body of a message that is sent in one frame.
pub fn body(frame: &[u8]) -> Option<&[u8]> {
    (frame[0] == 3).then(|| &frame[7..frame.len() - 1])
}

/// The delivery tag of an ack. It may also confirm all messages before it.
pub fn acked_tag(frame: &[u8]) -> Option<u64> {
    let tag = frame.get(11..19)?.try_into().ok()?;
    is_basic(frame, 80).then(|| u64::from_be_bytes(tag))
}

/// An ack for one message, on the channel of another frame.
pub fn ack(like: &[u8], tag: u64) -> Vec<u8> {
    let payload = [&[0, 60, 0, 80][..], &tag.to_be_bytes(), &[0]];
    frame(1, like, &payload.concat())
}

/// The broker returns a message with this id, on the channel of another frame.
pub fn returned(like: &[u8], message_id: &str) -> Vec<u8> {
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let method = [
        &[0, 60, 0, 50, 1, 0x38][..],
        &short("NO_ROUTE"),
        &short(""),
        &short("key"),
    ];
    // The message is empty, and has the property message-id only.
    let header = [&[0, 60, 0, 0][..], &[0; 8], &[0, 0x80], &short(message_id)];
    [
        frame(1, like, &method.concat()),
        frame(2, like, &header.concat()),
    ]
    .concat()
}

fn frame(kind: u8, like: &[u8], payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, like[1], like[2]][..], &size, payload, &[0xce]].concat()
}

/// The broker accepts the declaration of an exchange.
pub fn is_declare_ok(frame: &[u8]) -> bool {
    frame[0] == 1 && frame[7..11] == [0, 40, 0, 11]
}

/// The client has read that its channel is closed.
pub fn is_close_ok(frame: &[u8]) -> bool {
    frame[0] == 1 && frame[7..11] == [0, 20, 0, 41]
}

/// Closes the channel of another frame over an `exchange.declare`.
pub fn close_channel(like: &[u8], code: u16, text: &str) -> Vec<u8> {
    let mut payload = vec![0, 20, 0, 40];
    payload.extend(code.to_be_bytes());
    payload.push(text.len().try_into().unwrap());
    payload.extend(text.as_bytes());
    payload.extend([0, 40, 0, 10]);
    frame(1, like, &payload)
}

/// What keeps a connection alive on which nothing is sent.
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xce];
