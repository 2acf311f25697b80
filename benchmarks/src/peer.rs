//! Another system with the same logout, which each round measures after Concert (`peers/`).

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::http::Uri;

use crate::http::Connection;
use crate::load::{self, Until};
use crate::measurement::Measurement;
use crate::scenario;

/// Part of the response to the logout of an unknown session.
const NOT_FOUND: &str = "Session not found";

/// A system that responds to the logout of an unknown session with 404.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The name in the report.
    pub(crate) name: String,
    address: SocketAddr,
    path: String,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let expected = "expected NAME=http://HOST:PORT/PATH";
        let (name, url) = text.split_once('=').context(expected)?;
        let url: Uri = url.parse().context(expected)?;
        let authority = url.authority().filter(|_| url.scheme_str() == Some("http"));
        let authority = authority.context(expected)?.as_str();
        let mut addresses = authority.to_socket_addrs().context(expected)?;
        let address = addresses.next().context(expected)?;
        Ok(Self { name: name.to_owned(), address, path: url.path().to_owned() })
    }
}

impl Peer {
    /// Measures logouts of unknown sessions.
    pub(crate) async fn run(
        &self,
        in_flight: usize,
        time: Duration,
    ) -> anyhow::Result<Measurement> {
        let run = async |until| {
            let steps = scenario::unknown_logouts(&self.path);
            load::run(vec![self.address], in_flight, until, steps).await
        };
        let name = &self.name;
        let unusable = || format!("cannot measure {name}; is it running?");
        self.check().await.with_context(unusable)?;
        run(Until::Flows(scenario::WARM_UP)).await.with_context(unusable)?;
        let load = run(Until::Time(time)).await.with_context(unusable)?;
        Ok(Measurement::new(name, in_flight, &load.latency_us, load.took))
    }

    /// A server without the service also returns 404, but not with this text.
    async fn check(&self) -> anyhow::Result<()> {
        let session = r#"{"session": "unknown"}"#;
        let answer = Connection::open(self.address).await?.post(&self.path, session).await?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(body.contains(NOT_FOUND), "its response has no `{NOT_FOUND}`: {body}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_a_name_and_an_http_url() {
        let peer: Peer = "Other=http://127.0.0.1:8080/Auth/logout".parse().unwrap();
        assert_eq!((peer.name.as_str(), peer.path.as_str()), ("Other", "/Auth/logout"));
        assert_eq!(peer.address, ([127, 0, 0, 1], 8080).into());
        for text in ["Other", "Other=https://127.0.0.1:8080/", "Other=http://127.0.0.1/", "O=/x"] {
            let error = text.parse::<Peer>().unwrap_err().to_string();
            assert!(error.contains("NAME=http://HOST:PORT/PATH"), "{text}: {error}");
        }
    }
}
