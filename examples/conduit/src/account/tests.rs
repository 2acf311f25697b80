use concert_worker::trial::{Trial, TrialError};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

async fn trial() -> Result<Trial, TrialError> {
    Trial::with(worker(), json!({ "argon2_memory_kib": 64, "argon2_passes": 1 })).await
}

async fn register(trial: &Trial, name: &str, email: &str) -> Result<Value, TrialError> {
    let input = json!({ "username": name, "email": email, "password": "password" });
    Ok(trial.act("register", input).await?.output)
}

async fn authenticate(trial: &Trial, email: &str, password: &str) -> Result<Value, TrialError> {
    let input = json!({ "email": email, "password": password });
    Ok(trial.act("authenticate", input).await?.output)
}

#[tokio::test]
async fn names_and_addresses_belong_to_one_account() -> Result<(), TrialError> {
    let trial = trial().await?;
    let names = (0..8).map(|number| (format!("n{number}"), "Ada@x.org".to_owned()));
    let emails = (0..8).map(|number| ("ada".to_owned(), format!("{number}@x.org")));
    for (field, all) in [("email", names.collect::<Vec<_>>()), ("username", emails.collect())] {
        let all = all.iter().map(|(name, email)| register(&trial, name, email));
        let all = join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(all.iter().filter(|made| made["account"].is_string()).count(), 1, "{all:?}");
        let taken = json!({ "error": format!("{field} has already been taken") });
        assert_eq!(all.iter().filter(|made| **made == taken).count(), 7, "{all:?}");
    }
    let other_case = register(&trial, "other", "ADA@X.ORG").await?;
    assert_eq!(other_case, json!({ "error": "email has already been taken" }));
    for (name, email, error) in
        [("", "e", "username can't be blank"), ("n", " ", "email can't be blank")]
    {
        assert_eq!(register(&trial, name, email).await?, json!({ "error": error }));
    }
    Ok(())
}

#[tokio::test]
async fn update_changes_what_is_given_and_null_removes() -> Result<(), TrialError> {
    let trial = trial().await?;
    register(&trial, "eve", "eve@x.org").await?;
    let act = json!({ "username": "ada", "email": "ada@x.org", "password": "password" });
    let act = trial.act("register", act).await?;
    assert_eq!(trial.redeliver_uncompleted(&act).await?, act.output);
    let account = &act.output["account"];
    let update = async |changes: Value| {
        let mut input = changes;
        input["account"] = account.clone();
        let output = trial.act("update", input).await?.output;
        let rows = trial.ask("_get", json!({ "account": account })).await?;
        Ok::<_, TrialError>((output, rows[0].clone()))
    };
    let details = |username: &str, bio: Value, image: Value| {
        let email = "ada@x.org";
        json!({ "username": username, "email": email, "bio": bio, "image": image })
    };
    for (changes, expected) in [
        (json!({ "bio": "b", "image": "i" }), details("ada", json!("b"), json!("i"))),
        (json!({ "username": "lady" }), details("lady", json!("b"), json!("i"))),
        (json!({ "bio": null, "image": "" }), details("lady", Value::Null, Value::Null)),
    ] {
        assert_eq!(update(changes).await?, (json!({}), expected));
    }
    for (changes, error) in [
        (json!({ "username": "eve" }), "username has already been taken"),
        (json!({ "email": "EVE@x.org" }), "email has already been taken"),
        (json!({ "password": "" }), "password can't be blank"),
    ] {
        assert_eq!(update(changes).await?.0, json!({ "error": error }));
    }
    update(json!({ "password": "another" })).await?;
    let wrong = json!({ "error": "credentials are invalid" });
    assert_eq!(authenticate(&trial, "ada@x.org", "password").await?, wrong);
    assert_eq!(authenticate(&trial, "nobody@x.org", "another").await?, wrong);
    let right = authenticate(&trial, "ADA@x.org", "another").await?;
    assert_eq!(right, json!({ "account": account }));
    let none = trial.ask("_getByName", json!({ "username": "ada" })).await?;
    assert_eq!(none, json!([]), "the old name is free");
    let named = trial.ask("_getNamed", json!({ "username": "ada" })).await?;
    assert_eq!(named, json!([{ "accounts": [] }]));
    assert_eq!(trial.ask("_getNamed", json!({})).await?, json!([]));
    Ok(())
}
