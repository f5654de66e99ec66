//! To come.

use crate::args::DemoArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};

pub(crate) async fn demo(_args: DemoArgs, _console: Console) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
