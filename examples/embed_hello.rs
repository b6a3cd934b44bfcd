//! Two nodes in one process: Dana founds an organisation, Sam joins by her invitation, and they talk. Nothing is written
//! to disk and nothing leaves this machine.
//!
//! ```sh
//! cargo run -p oob-examples --example embed_hello
//! ```

use oob_core::{MessageState, prelude::*};
use std::time::Instant;

/// A node that keeps everything in memory and listens on this machine only.
fn local(name: &str) -> NodeBuilder {
    Node::builder("")
        .in_memory()
        .identity(name)
        .preset(Preset::LanOnly)
        .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
        .mdns(false)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let start = Instant::now();
    let step = |what: &str| println!("{:>5} ms  {what}", start.elapsed().as_millis());

    let dana = local("Dana").spawn().await?;
    let org = dana.found("Riverside Clinic").await?;
    let invite = org.invite(InviteOptions::default()).await?.invite;
    step("Dana founded Riverside Clinic and wrote an invitation");

    let sam = local("Sam").spawn().await?;
    let mut at_sam = sam.events(Cursor::Last); // subscribe before acting
    sam.join(invite).await?;
    step("Sam joined by it");

    let mut at_dana = dana.events(Cursor::Last);
    let sent = org.person("Sam")?.send("Mail is compromised. Talk here.").await?;
    step("Dana's message is durable");

    while let Some(event) = at_sam.next().await {
        if let Event::Message(message) = event {
            step(&format!("Sam reads: {}: {}", message.author, message.text));
            let Some(dana) = sam.person_of(message.conversation) else { continue };
            dana.mark_read(message.number).await?;
            break;
        }
    }
    while let Some(event) = at_dana.next().await {
        match event {
            Event::Receipt(receipt) if receipt.message == sent => {
                step(&format!("Dana knows: {}", receipt.state));
                if receipt.state == MessageState::Read {
                    break;
                }
            }
            _ => {}
        }
    }
    dana.shutdown().await?;
    sam.shutdown().await?;
    step("both are closed");
    Ok(())
}
