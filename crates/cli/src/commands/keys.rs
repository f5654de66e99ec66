//! `sidestream keys`: who may do what on a server.

use sidestream_client::client::ApiKey;

use crate::args::{Common, KeysCommand};
use crate::console::{Console, Style, plain, table};
use crate::exit::{Exit, Failure};
use crate::place::{IfMissing, Place};

pub(crate) async fn keys(
    common: &Common,
    command: KeysCommand,
    console: Console,
) -> Result<Exit, Failure> {
    // The namespace is here that of the key to be made; the one who asks has one of its own.
    let namespace = common.namespace.as_deref().filter(|name| !name.is_empty());
    match command {
        KeysCommand::Add { role, name } => {
            let place = Place::find(common, IfMissing::Create).await?;
            let asked = match &place {
                Place::Server(_) => {
                    let common = Common {
                        namespace: None,
                        ..common.clone()
                    };
                    Place::find(&common, IfMissing::Create).await?
                }
                Place::Store(_) => place,
            };
            let key = asked.add_key(&name, &role, namespace).await?;
            show_added(&key, console)?;
        }
        KeysCommand::List => {
            let place = Place::find(common, IfMissing::Refuse).await?;
            show_all(&place.keys().await?, console)?;
        }
        KeysCommand::Revoke { id } => {
            let place = Place::find(common, IfMissing::Refuse).await?;
            place.revoke_key(&id).await?;
            console.note(&format!("key {} is revoked", plain(&id)));
        }
    }
    Ok(Exit::Done)
}

/// The key alone is data, so that a script can take it.
fn show_added(key: &ApiKey, console: Console) -> Result<(), Failure> {
    if console.json {
        return console.json(key);
    }
    console.data(key.key.as_deref().unwrap_or_default())?;
    console.note(&format!(
        "key {} of role {} in namespace {}; it cannot be shown again",
        key.id, key.role, key.namespace
    ));
    Ok(())
}

fn show_all(keys: &[ApiKey], console: Console) -> Result<(), Failure> {
    if console.json {
        return keys.iter().try_for_each(|key| console.json(key));
    }
    let row = |key: &ApiKey| {
        let revoked = key.revoked_at.map_or("-".to_owned(), |at| at.to_string());
        let (name, namespace) = (
            plain(&key.name).into_owned(),
            plain(&key.namespace).into_owned(),
        );
        let made = key.created_at.to_string();
        vec![
            key.id.clone(),
            key.role.clone(),
            namespace,
            made,
            revoked,
            name,
        ]
    };
    let header = ["ID", "ROLE", "NAMESPACE", "MADE", "REVOKED", "NAME"];
    let lines = table(&header, &keys.iter().map(row).collect::<Vec<_>>());
    for (at, line) in lines.iter().enumerate().skip(usize::from(keys.is_empty())) {
        let style = if at == 0 { Style::Bold } else { Style::Plain };
        console.data(&console.paint(style, line))?;
    }
    if keys.is_empty() {
        console.note("there is no key");
    }
    Ok(())
}
