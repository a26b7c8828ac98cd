//! Procedures to be called with an outcome: as options of a call or group, and `antiphon callback` for a call that is
//! there already.

use crate::connection::{Connection, unexpected};
use crate::ending::{Ending, NOT_KNOWN, REFUSED};
use crate::input;
use crate::output::{Format, Output};
use antiphon_protocol::{Answer, CallId, Callback, CallbackOn, Code, Name, Query, Route};
use clap::{Args, ValueEnum};
use serde_json::json;

/// What is called with the outcome
#[derive(Debug, Args)]
pub struct Callbacks {
    /// Call this procedure with the outcome, whatever it is; may be given several times
    #[arg(long, value_parser = input::name, value_name = "PROCEDURE")]
    callback: Vec<Name>,
    /// Call this procedure with the outcome after success
    #[arg(long, value_parser = input::name, value_name = "PROCEDURE")]
    on_success: Vec<Name>,
    /// Call this procedure with the outcome after anything else: failed, cancelled, expired, dead
    #[arg(long, value_parser = input::name, value_name = "PROCEDURE")]
    on_failure: Vec<Name>,
    /// Call this procedure with the value after success; given again, the next one with the value of the one before
    #[arg(long, value_parser = input::name, value_name = "PROCEDURE")]
    then: Vec<Name>,
}

impl Callbacks {
    pub fn planned(&self) -> Vec<Callback> {
        let each = |on: CallbackOn, names: &[Name]| {
            names.iter().map(move |name| Callback { on, route: Route::new(name.clone()) }).collect::<Vec<_>>()
        };
        let mut planned = each(CallbackOn::Outcome, &self.callback);
        planned.extend(each(CallbackOn::Success, &self.on_success));
        planned.extend(each(CallbackOn::Failure, &self.on_failure));
        let chain = self.then.iter().rev().fold(None, |next: Option<Callback>, name| {
            let mut route = Route::new(name.clone());
            route.callbacks.extend(next);
            Some(Callback { on: CallbackOn::Value, route })
        });
        planned.extend(chain);
        planned
    }
}

/// When the procedure is called, and with what.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    /// After any outcome, with the outcome
    Outcome,
    /// After success, with the outcome
    Success,
    /// After anything else, with the outcome
    Failure,
    /// After success, with the value
    Value,
}

/// Have a procedure called with the outcome of a call that is there already, settled or not
///
/// The outcome is {id, procedure, state, attempts, value | failure}. Prints the id of the call that the callback is or
/// becomes. The same one again changes nothing.
#[derive(Debug, Args)]
pub struct AddCallback {
    /// The call's id
    #[arg(value_parser = input::call_id)]
    id: CallId,
    /// The procedure, as service.procedure
    #[arg(value_parser = input::name)]
    procedure: Name,
    /// After which outcomes
    #[arg(long, value_enum, default_value_t = On::Outcome)]
    on: On,
}

pub async fn run(arguments: AddCallback, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    let on = match arguments.on {
        On::Outcome => CallbackOn::Outcome,
        On::Success => CallbackOn::Success,
        On::Failure => CallbackOn::Failure,
        On::Value => CallbackOn::Value,
    };
    let callback = Box::new(Callback { on, route: Route::new(arguments.procedure) });
    match connection.ask(Query::AddCallback { call: arguments.id, callback }).await? {
        Answer::CallbackAdded(id) => match output.format {
            Format::Table => output.line(id.to_string().as_bytes()),
            _ => output.json(&json!({ "id": id })),
        },
        Answer::Refused { code: Code::NotFound, message } => Err(Ending::new(NOT_KNOWN, message)),
        Answer::Refused { message, .. } => Err(Ending::new(REFUSED, format!("refused: {message}"))),
        other => Err(unexpected(&other)),
    }
}
