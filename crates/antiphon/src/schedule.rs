//! Recurring calls, as programs ask for them.

use crate::Antiphon;
use antiphon_broker::Support;
use antiphon_protocol::{Answer, Change, Code, Failure, Name, Query, Schedule, ScheduleStatus};

impl Antiphon {
    /// Has a schedule be: its procedure is called at each tick, exactly once, whatever crashes in between. One of the same
    /// name is replaced. It stays until it is removed, also over restarts of a broker that journals.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an interval under 1 s, a malformed cron expression or an unknown time zone;
    /// `RESOURCE_EXHAUSTED` for arguments above 64 KiB or too many schedules; `UNIMPLEMENTED` when the broker has none.
    pub async fn schedule(&self, schedule: Schedule) -> Result<Change, Failure> {
        self.has_schedules()?;
        self.change(Query::Schedule(Box::new(schedule))).await
    }

    /// Removes a schedule. Calls that it made go on.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is none of this name.
    pub async fn unschedule(&self, name: &str) -> Result<Change, Failure> {
        self.has_schedules()?;
        self.change(Query::Unschedule(named(name)?)).await
    }

    /// Lets a schedule's ticks pass, or call again from the next one on.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is none of this name.
    pub async fn pause_schedule(&self, name: &str, paused: bool) -> Result<Change, Failure> {
        self.has_schedules()?;
        self.change(Query::PauseSchedule { name: named(name)?, paused }).await
    }

    /// All schedules by name, with their next ticks; without their arguments.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` when the broker has none.
    pub async fn schedules(&self) -> Result<Vec<ScheduleStatus>, Failure> {
        self.has_schedules()?;
        match self.inspect().ask(Query::Schedules).await? {
            Answer::Schedules(all) => Ok(all),
            other => Err(crate::inspection::unexpected(&other)),
        }
    }

    /// Refuses what this broker does not have, before anything is sent.
    fn has_schedules(&self) -> Result<(), Failure> {
        if self.session().broker.capabilities().schedules != Support::Refused {
            return Ok(());
        }
        Err(Failure::new(Code::Unimplemented, "this broker has no recurring calls: call the procedure from a timer"))
    }
}

fn named(name: &str) -> Result<Name, Failure> {
    Name::new(name).map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))
}
