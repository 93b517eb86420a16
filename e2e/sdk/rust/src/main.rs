//! Sends the calls of e2e/sdk through the unmodified crate `segment`, the kept
//! fork of Segment's `analytics`. What it is to do comes in the environment:
//! ENDPOINT, WRITE_KEY, PERSON, COUNT, and MODE. Basic sends each call to its
//! own route and the rest with the AutoBatcher, without message ids. Retry sends
//! small batches with message ids and sends again what failed, since the SDK
//! does neither by itself.

use segment::message::{Alias, Batch, BatchMessage, Group, Identify, Message, Page, Screen, Track, User};
use segment::{AutoBatcher, Batcher, Client, HttpClient};
use serde_json::{json, Map, Value};
use std::env;
use std::error::Error;
use std::time::Duration;
use time::OffsetDateTime;

fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (key, person) = (env::var("WRITE_KEY")?, env::var("PERSON")?);
    let count: usize = env::var("COUNT")?.parse()?;
    let retry = env::var("MODE")? == "retry";
    let client = HttpClient::new(reqwest::Client::new(), env::var("ENDPOINT")?);

    let mut made = 0;
    let mut extra = || -> Map<String, Value> {
        made += 1;
        let mut m = Map::new();
        if retry {
            m.insert("messageId".into(), format!("{person}-{made}").into());
        }
        m
    };
    let both = || User::Both { user_id: person.clone(), anonymous_id: format!("{person}-browser") };
    let known = || User::UserId { user_id: person.clone() };
    let calls: Vec<BatchMessage> = vec![
        Identify {
            user: both(),
            traits: json!({"email": format!("{person}@example.com"), "plan": "gold", "visits": 3}),
            extra: extra(),
            ..Default::default()
        }
        .into(),
        Track {
            user: both(),
            event: "Order Completed".into(),
            properties: json!({"revenue": 12.5, "products": [{"sku": "a"}]}),
            timestamp: Some(OffsetDateTime::now_utc() - Duration::from_secs(3600)),
            context: Some(json!({"app": {"name": "Kiosk"}})),
            integrations: Some(json!({"Other": false})),
            extra: extra(),
        }
        .into(),
        Page { user: both(), name: "Home".into(), properties: json!({"path": "/"}), extra: extra(), ..Default::default() }.into(),
        Screen { user: both(), name: "Menu".into(), properties: json!({"tab": 1}), extra: extra(), ..Default::default() }.into(),
        Group { user: both(), group_id: "acme".into(), traits: json!({"name": "Acme", "seats": 20}), extra: extra(), ..Default::default() }.into(),
        Alias { user: known(), previous_id: format!("{person}-old"), extra: extra(), ..Default::default() }.into(),
    ];
    let tracks: Vec<BatchMessage> = (0..count)
        .map(|n| Track { user: known(), event: "Counted".into(), properties: json!({"n": n}), extra: extra(), ..Default::default() }.into())
        .collect();

    if !retry {
        for call in calls {
            client.send(key.clone(), single(call)).await?;
        }
        let mut batcher = AutoBatcher::new(client, Batcher::new(None), key);
        for track in tracks {
            batcher.push(track).await?;
        }
        return Ok(batcher.flush().await?);
    }
    let all: Vec<BatchMessage> = calls.into_iter().chain(tracks).collect();
    for batch in all.chunks(10) {
        let message = Message::Batch(Batch { batch: batch.to_vec(), ..Default::default() });
        let mut tries = 1;
        while let Err(failed) = client.send(key.clone(), message.clone()).await {
            if tries == 10 {
                return Err(failed.into());
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// The call as a request of its own.
fn single(call: BatchMessage) -> Message {
    match call {
        BatchMessage::Identify(m) => Message::Identify(m),
        BatchMessage::Track(m) => Message::Track(m),
        BatchMessage::Page(m) => Message::Page(m),
        BatchMessage::Screen(m) => Message::Screen(m),
        BatchMessage::Group(m) => Message::Group(m),
        BatchMessage::Alias(m) => Message::Alias(m),
    }
}
