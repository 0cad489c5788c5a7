//! A way to a server that can be cut and slowed down.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// A way to a server.
pub(crate) struct Way {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    delay_ms: AtomicU64,
}

impl Way {
    pub(crate) fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let of_way = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let Ok(pairs) = pairs(&client, &upstream) else { continue };
                for (from, to) in pairs {
                    let state = of_way.clone();
                    thread::spawn(move || state.carry(from, to));
                }
            }
        });
        Self { port, state }
    }

    /// All connections end, and new ones come to nothing.
    pub(crate) fn cut(&self, on: bool) {
        self.state.is_cut.store(on, Ordering::Relaxed);
    }

    /// What goes either way comes so much later.
    pub(crate) fn delay(&self, milliseconds: u64) {
        self.state.delay_ms.store(milliseconds, Ordering::Relaxed);
    }
}

fn pairs(client: &TcpStream, upstream: &TcpStream) -> std::io::Result<[(TcpStream, TcpStream); 2]> {
    for stream in [client, upstream] {
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.set_nodelay(true)?;
    }
    Ok([(client.try_clone()?, upstream.try_clone()?), (upstream.try_clone()?, client.try_clone()?)])
}

impl State {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 65536];
        while !self.is_cut.load(Ordering::Relaxed) {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
                    if self.is_cut.load(Ordering::Relaxed) || to.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
