//! The typed client of Ostler's HTTP interface: the command line uses it, and so can any program.
//!
//! [`Client`] is asynchronous. [`Blocking`] implements [`Api`](ostler_api::Api) on it, for faces that cannot tell a
//! server from a store.
//!
//! ```no_run
//! # async fn example() -> Result<(), ostler_api::ApiError> {
//! use ostler_api::StartRequest;
//! use ostler_client::{Client, Server};
//! let client = Client::new(&Server { url: "http://127.0.0.1:7467".into(), token: None, allow_http: false })?;
//! let start = StartRequest { namespace: "demo".into(), task: "pull".into(), ..StartRequest::default() };
//! let run = client.run(client.start(&start).await?.id()).await?;
//! println!("{} is {}", run.id, run.state);
//! # Ok(())
//! # }
//! ```

mod blocking;
mod calls;
mod http;
mod workers;

pub use blocking::Blocking;
pub use http::{Client, Secret, Server, plain};
