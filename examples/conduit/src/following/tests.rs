use concert_worker::trial::{Trial, TrialError};
use futures_util::future::join_all;
use serde_json::json;

use super::*;

#[tokio::test]
async fn concurrent_follows_are_one() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let act = |action: &'static str, followed: &str| {
        trial.act(action, json!({ "follower": "ada", "followed": followed }))
    };
    for made in join_all((0..50).map(|_| act("follow", "eve"))).await {
        assert_eq!(made?.output, json!({}));
    }
    act("follow", "bob").await?;
    let followed = async || trial.ask("_getFollowed", json!({ "follower": "ada" })).await;
    let is_following = async |follower: &str, followed: &str| {
        let input = json!({ "follower": follower, "followed": followed });
        Ok::<_, TrialError>(trial.ask("_isFollowing", input).await?[0]["following"] == true)
    };
    assert_eq!(followed().await?, json!([{ "followed": ["bob", "eve"] }]));
    assert!(is_following("ada", "eve").await?);
    assert!(!is_following("eve", "ada").await?);
    let guest = trial.ask("_isFollowing", json!({ "followed": "eve" })).await?;
    assert_eq!(guest, json!([{ "following": false }]));
    act("unfollow", "eve").await?;
    assert!(!is_following("ada", "eve").await?);
    assert_eq!(followed().await?, json!([{ "followed": ["bob"] }]));
    act("follow", "eve").await?;
    assert!(is_following("ada", "eve").await?);
    Ok(())
}
