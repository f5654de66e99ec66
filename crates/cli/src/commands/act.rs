//! `sidestream get`, `cancel`, `resume`, `retry`, `delete`: what is asked of tasks that are there.

use sidestream::TaskId;
use sidestream::core::wire::TaskRecord;

use crate::args::{Common, ResumeArgs};
use crate::commands::run::read_json;
use crate::console::{Console, Style};
use crate::exit::{Exit, Failure};
use crate::place::{IfMissing, Place};
use crate::show;

pub(crate) async fn get(common: &Common, id: &str, console: Console) -> Result<Exit, Failure> {
    let place = Place::find(common, IfMissing::Refuse).await?;
    let task = place.get(&TaskId::new(id)?).await?;
    if console.json {
        console.json(&task)?;
    } else {
        for line in show::task(&task, console) {
            console.data(&line)?;
        }
    }
    Ok(Exit::Done)
}

pub(crate) async fn cancel(
    common: &Common,
    ids: &[String],
    console: Console,
) -> Result<Exit, Failure> {
    let place = Place::find(common, IfMissing::Refuse).await?;
    let mut exit = Exit::Done;
    for id in ids {
        let done = place.cancel(&TaskId::new(id.as_str())?).await;
        exit = told(done, exit, console)?;
    }
    Ok(exit)
}

pub(crate) async fn retry(
    common: &Common,
    ids: &[String],
    console: Console,
) -> Result<Exit, Failure> {
    let place = Place::find(common, IfMissing::Refuse).await?;
    let mut exit = Exit::Done;
    for id in ids {
        let done = place.retry(&TaskId::new(id.as_str())?).await;
        exit = told(done, exit, console)?;
    }
    warn_that_nothing_runs(&place, exit, console);
    Ok(exit)
}

pub(crate) async fn resume(
    common: &Common,
    args: ResumeArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let data = read_json("RESUME_DATA", &args.resume_data)?;
    let place = Place::find(common, IfMissing::Refuse).await?;
    let done = place.resume(&TaskId::new(args.id)?, &data).await;
    let exit = told(done, Exit::Done, console)?;
    warn_that_nothing_runs(&place, exit, console);
    Ok(exit)
}

pub(crate) async fn delete(
    common: &Common,
    ids: &[String],
    console: Console,
) -> Result<Exit, Failure> {
    let place = Place::find(common, IfMissing::Refuse).await?;
    let mut exit = Exit::Done;
    for id in ids {
        match place.delete(&TaskId::new(id.as_str())?).await {
            Ok(()) if console.json => {
                console.json(&serde_json::json!({"id": id, "deleted": true}))?
            }
            Ok(()) => console.data(&format!("{}  deleted", crate::console::plain(id)))?,
            Err(failure) => exit = refused(failure, console)?,
        }
    }
    Ok(exit)
}

/// Says how a task stands now; or why it was refused, so that the others are still asked.
fn told(done: Result<TaskRecord, Failure>, exit: Exit, console: Console) -> Result<Exit, Failure> {
    match done {
        Ok(task) if console.json => console.json(&task)?,
        Ok(task) => {
            let status = console.paint(show::style_of(task.status), task.status.as_str());
            let id = crate::console::plain(task.id.as_str()).into_owned();
            console.data(&format!("{id}  {status}"))?;
        }
        Err(failure) => return refused(failure, console),
    }
    Ok(exit)
}

fn refused(failure: Failure, console: Console) -> Result<Exit, Failure> {
    if failure.exit != Exit::Refused {
        return Err(failure);
    }
    console.failure(&failure);
    Ok(Exit::Refused)
}

fn warn_that_nothing_runs(place: &Place, exit: Exit, console: Console) {
    if matches!(place, Place::Store(_)) && exit == Exit::Done {
        let note = "no server runs: the task goes on when `sidestream serve` does";
        console.note(&console.paint_error(Style::Yellow, note));
    }
}
