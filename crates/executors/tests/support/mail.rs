//! A small mail server on loopback that takes what it is sent, or says why not.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    /// User and password, as `AUTH PLAIN` has them, in Base64.
    pub(crate) login: Option<String>,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: String,
}

impl Mail {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        head.split("\r\n").find_map(|l| l.strip_prefix(&format!("{name}: ")).map(str::to_owned))
    }
}

pub(crate) struct MailServer {
    pub(crate) address: std::net::SocketAddr,
    taken: Arc<Mutex<Vec<Mail>>>,
}

impl MailServer {
    /// Serves until the runtime ends; `refuse` gives the answer to a line that is not taken.
    pub(crate) async fn start(refuse: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let (kept, refuse) = (taken.clone(), Arc::new(refuse));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, refuse) = (kept.clone(), refuse.clone());
                tokio::spawn(async move {
                    // A client that goes away ends the session.
                    let _ = serve(stream, &kept, &*refuse).await;
                });
            }
        });
        Self { address, taken }
    }

    pub(crate) fn taken(&self) -> Vec<Mail> {
        self.taken.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    taken: &Mutex<Vec<Mail>>,
    refuse: &(impl Fn(&str) -> Option<String> + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut mail = Mail::default();
    stream.write_all(b"220 mail.test\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let path = || line.split(['<', '>']).nth(1).unwrap().to_owned();
        let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
        let answer = match (refuse(line), verb.as_str()) {
            (Some(answer), _) => answer,
            (None, "EHLO") => "250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN".into(),
            (None, "AUTH") => {
                mail.login = line.split(' ').nth(2).map(str::to_owned);
                "235 welcome".into()
            }
            (None, "MAIL") => {
                mail = Mail { login: mail.login.take(), from: path(), ..Mail::default() };
                "250 ok".into()
            }
            (None, "RCPT") => {
                mail.to.push(path());
                "250 ok".into()
            }
            (None, "DATA") => {
                stream.write_all(b"354 go on\r\n").await?;
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                taken.lock().unwrap().push(mail.clone());
                "250 queued".into()
            }
            (None, "QUIT") => "221 bye".into(),
            (None, _) => "502 what?".into(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}
