//! A small HTTP server on loopback that misbehaves when told to.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// What goes out.
pub(crate) enum Reply {
    /// Status line, headers and body.
    Text(&'static str, Vec<(&'static str, String)>, String),
    /// Promises more than it sends.
    Truncated,
    /// Nothing, with the connection open.
    Silence,
}

pub(crate) fn ok(body: &str) -> Reply {
    Reply::Text("200 OK", vec![("content-type", "application/json".into())], body.into())
}

pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Serves until the runtime ends; `reply` gets the request and how many came before it.
    pub(crate) async fn start(reply: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, reply) = (asked.clone(), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone(), reply.clone()));
            }
        });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    seen: Arc<Mutex<Vec<Asked>>>,
    reply: Arc<impl Fn(&Asked, usize) -> Reply + Send + Sync>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut asked = Asked::default();
        if stream.read_line(&mut asked.line).await.unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            asked.headers.push((name.into(), value.into()));
        }
        let length = asked.header("content-length").map_or(0, |l| l.parse().unwrap());
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        asked.body = String::from_utf8_lossy(&body).into_owned();
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked.clone());
            seen.len() - 1
        };
        let text = match reply(&asked, before) {
            Reply::Silence => return std::future::pending().await,
            Reply::Truncated => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this".to_owned(),
            Reply::Text(status, headers, body) => {
                let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
                format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
            }
        };
        if stream.write_all(text.as_bytes()).await.is_err() || text.contains("1000\r\n\r\nonly") {
            return;
        }
    }
}
