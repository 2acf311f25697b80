//! The logout of an unknown session as a Restate service: two durable steps, then a 404.

use restate_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Logout {
    session: String,
}

/// The result of the lookup, which the journal stores.
#[derive(Serialize, Deserialize)]
struct Deleted {
    error: Option<String>,
}

/// What the client gets; stored before it is sent.
#[derive(Serialize, Deserialize)]
struct Response {
    status: u16,
    error: String,
}

struct Auth;

#[service]
impl Auth {
    #[handler]
    async fn logout(
        &self,
        context: Context<'_>,
        Json(Logout { session }): Json<Logout>,
    ) -> Result<(), HandlerError> {
        let deleted = context.run(|| async { Ok(Json::from(delete(&session))) }).name("delete");
        let Json(Deleted { error }) = deleted.await?;
        let Some(error) = error else { return Ok(()) };
        let response = context
            .run(|| async { Ok(Json::from(Response { status: 404, error })) })
            .name("respond");
        let Json(Response { status, error }) = response.await?;
        Err(TerminalError::new_with_code(status, error).into())
    }
}

/// No session is known, so there is no database to ask.
fn delete(_session: &str) -> Deleted {
    Deleted { error: Some("Session not found.".to_owned()) }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let endpoint = Endpoint::builder().bind(Auth).build();
    HttpServer::new(endpoint).listen_and_serve("127.0.0.1:9080".parse()?).await;
    Ok(())
}
