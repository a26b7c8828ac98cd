//! When the ticks of schedules are due, and which of those that were missed still count.

use crate::bodies::Body;
use crate::cron::Cron;
use crate::driver::{Driver, hash_of};
use crate::events;
use crate::topics::refused;
use antiphon_engine::{Now, Scheduled, Ticked};
use antiphon_journal::{Generation, Reserve};
use antiphon_protocol::{
    Answer, CallId, Change, Code, Failure, Misfire, Name, Payload, Recurrence, Schedule, ScheduleStatus, defaults,
};
use std::time::Duration;

/// The shortest interval: a schedule is no loop.
const EVERY_MS_MIN: u64 = 1_000;
/// How long to wait for room before a tick that had none is tried again.
const FULL_MS: u64 = 1_000;
/// The longest sleep before a tick: a wall clock that was set is noticed after this long.
const SLEEP_MAX: Duration = Duration::from_secs(10);
/// How many of a schedule's next ticks are told.
const NEXT: usize = 3;

/// The ticks of one schedule.
enum Ticks {
    /// Every so many milliseconds after a time.
    Every {
        ms: u64,
        added_ms: u64,
    },
    Cron(Box<Cron>),
}

impl Ticks {
    fn new(recurrence: &Recurrence, added_ms: u64) -> Result<Self, Failure> {
        let wrong = |text: String| Failure::new(Code::InvalidArgument, text);
        match recurrence {
            Recurrence::Every(ms) if *ms < EVERY_MS_MIN => {
                Err(wrong(format!("every {ms} ms is too often: a schedule's interval is at least 1 s")))
            }
            Recurrence::Every(ms) => Ok(Self::Every { ms: *ms, added_ms }),
            Recurrence::Cron { expression, zone } => {
                Cron::new(expression, zone).map(|cron| Self::Cron(Box::new(cron))).map_err(wrong)
            }
        }
    }

    fn after(&self, wall_ms: u64) -> Option<u64> {
        match self {
            Self::Every { ms, added_ms } => {
                let passed = wall_ms.saturating_sub(*added_ms) / ms;
                added_ms.checked_add(ms.checked_mul(passed + 1)?)
            }
            Self::Cron(cron) => cron.after(wall_ms),
        }
    }

    fn until(&self, wall_ms: u64) -> Option<u64> {
        match self {
            Self::Every { ms, added_ms } => {
                let passed = wall_ms.checked_sub(*added_ms)? / ms;
                (passed > 0).then(|| added_ms + ms * passed)
            }
            Self::Cron(cron) => cron.until(wall_ms),
        }
    }

    /// Ticks after the cursor up to now that count, in their order: those that are on time, and of those that were
    /// missed as many as the policy says.
    fn due(&self, cursor_ms: u64, now_ms: u64, misfire: Misfire) -> Vec<u64> {
        let mut missed = match misfire {
            Misfire::Once => 1,
            Misfire::All(ticks) => ticks,
            Misfire::Skip => 0,
        };
        let mut due = Vec::new();
        let mut at = self.until(now_ms);
        while let Some(tick_ms) = at.filter(|tick_ms| *tick_ms > cursor_ms) {
            if tick_ms + defaults::SCHEDULE_LATE_MS < now_ms {
                if missed == 0 {
                    break;
                }
                missed -= 1;
            }
            due.push(tick_ms);
            at = tick_ms.checked_sub(1).and_then(|before| self.until(before));
        }
        due.reverse();
        due
    }
}

struct Timed {
    id: CallId,
    ticks: Ticks,
    misfire: Misfire,
    bytes: usize,
    cursor_ms: u64,
    next_ms: u64,
}

/// All schedules that are not paused.
#[derive(Default)]
pub(crate) struct Timetable {
    timed: Vec<Timed>,
    /// Whether it was made from the schedules there are.
    made: bool,
}

impl Timetable {
    fn next_ms(&self) -> Option<u64> {
        self.timed.iter().map(|timed| timed.next_ms).min()
    }

    /// How long until it must be looked at again.
    pub fn next_wake(&self, now: Now) -> Option<Duration> {
        if !self.made {
            return Some(Duration::ZERO);
        }
        let left = Duration::from_millis(self.next_ms()?.saturating_sub(now.wall_ms));
        Some(left.min(SLEEP_MAX))
    }
}

impl Driver {
    /// Makes the calls of ticks that are due.
    pub(crate) fn run_timetable(&mut self) {
        let now_ms = self.now().wall_ms;
        if !self.timetable.made {
            self.make_timetable();
        }
        if self.timetable.next_ms().is_none_or(|next_ms| next_ms > now_ms) {
            return;
        }
        let mut timed = std::mem::take(&mut self.timetable.timed);
        for it in timed.iter_mut().filter(|it| it.next_ms <= now_ms) {
            self.tick(it, now_ms);
        }
        self.timetable.timed = timed;
    }

    fn make_timetable(&mut self) {
        let all = self.engine.schedules().filter(|schedule| !schedule.ticked.paused);
        let timed = all.filter_map(|schedule| {
            // It was read before it was recorded; without the database of time zones it would have no ticks.
            let ticks = Ticks::new(&schedule.recurrence, schedule.added_ms).ok()?;
            let cursor_ms = schedule.ticked.cursor_ms.max(schedule.added_ms);
            let next_ms = ticks.after(cursor_ms).unwrap_or(u64::MAX);
            let (id, misfire, bytes) = (schedule.id, schedule.misfire, schedule.arguments.0 as usize);
            Some(Timed { id, ticks, misfire, bytes, cursor_ms, next_ms })
        });
        self.timetable = Timetable { timed: timed.collect(), made: true };
    }

    fn tick(&mut self, it: &mut Timed, now_ms: u64) {
        let due = it.ticks.due(it.cursor_ms, now_ms, it.misfire);
        let cursor_ms = it.ticks.until(now_ms).unwrap_or(0).max(it.cursor_ms);
        let room = self.make_room(due.len() * (it.bytes + 4_096), Reserve::No).is_ok();
        let made = room
            && self.with(Generation::Young, None, |engine, now, output| {
                engine.tick_schedule(now, it.id, &due, cursor_ms, output)
            });
        if made {
            it.cursor_ms = cursor_ms;
            it.next_ms = it.ticks.after(cursor_ms.max(now_ms)).unwrap_or(u64::MAX);
        } else {
            it.next_ms = now_ms + FULL_MS;
        }
    }

    pub(crate) fn schedule(&mut self, schedule: Schedule) -> Answer {
        let wall_ms = self.now().wall_ms;
        let checked = self.check_definition(&schedule.route).and_then(|()| Ticks::new(&schedule.recurrence, wall_ms));
        if let Err(failure) = checked {
            return refused(failure);
        }
        let bytes = schedule.arguments.len();
        if bytes > defaults::SCHEDULE_BYTES_MAX {
            let max = defaults::SCHEDULE_BYTES_MAX;
            let text =
                format!("the arguments have {bytes} bytes, a schedule's at most {max}: pass a reference instead");
            return refused(Failure::new(Code::ResourceExhausted, text));
        }
        let Schedule { name, recurrence, route, content_type, arguments, overlap, misfire } = schedule;
        let payload = Payload::new(content_type, arguments);
        let wanted = Scheduled {
            id: self.new_id(),
            name,
            recurrence,
            route,
            overlap,
            misfire: if misfire == Misfire::All(0) { Misfire::Skip } else { misfire },
            arguments: (u32::try_from(bytes).unwrap_or(u32::MAX), hash_of(&payload)),
            added_ms: wall_ms,
            ticked: Ticked { cursor_ms: wall_ms, ..Ticked::default() },
        };
        let body = Some(Body::Arguments { payload, trace: None });
        let made = self.with(Generation::Young, body, |engine, _, output| engine.schedule(wanted, output));
        self.timetable.made = false;
        match made {
            Ok(change) => Answer::Changed(change),
            Err(refusal) => refused(events::refused(&refusal)),
        }
    }

    pub(crate) fn unschedule(&mut self, name: &Name) -> Answer {
        let gone = self.with(Generation::Young, None, |engine, _, output| engine.unschedule(name, output));
        self.timetable.made = false;
        if gone { Answer::Changed(Change::Removed) } else { no_schedule(name) }
    }

    pub(crate) fn pause_schedule(&mut self, name: &Name, paused: bool) -> Answer {
        let wall_ms = self.now().wall_ms;
        let found = self
            .with(Generation::Young, None, |engine, _, output| engine.pause_schedule(name, paused, wall_ms, output));
        self.timetable.made = false;
        if found { Answer::Changed(Change::Changed) } else { no_schedule(name) }
    }

    pub(crate) fn schedules(&mut self) -> Vec<ScheduleStatus> {
        let now_ms = self.now().wall_ms;
        self.engine.schedules().map(|schedule| status(schedule, now_ms)).collect()
    }
}

fn status(schedule: &Scheduled, now_ms: u64) -> ScheduleStatus {
    let mut next_ms = Vec::new();
    if let Ok(ticks) = Ticks::new(&schedule.recurrence, schedule.added_ms)
        && !schedule.ticked.paused
    {
        let mut at = schedule.ticked.cursor_ms.max(now_ms);
        while next_ms.len() < NEXT
            && let Some(tick_ms) = ticks.after(at)
        {
            next_ms.push(tick_ms);
            at = tick_ms;
        }
    }
    let Ticked { last_ms, queued_ms, paused, .. } = schedule.ticked;
    ScheduleStatus {
        schedule: Schedule {
            name: schedule.name.clone(),
            recurrence: schedule.recurrence.clone(),
            route: schedule.route.clone(),
            content_type: Payload::default().content_type,
            arguments: Vec::new(),
            overlap: schedule.overlap,
            misfire: schedule.misfire,
        },
        paused,
        last_ms,
        last_call: (last_ms != 0).then(|| schedule.call_of(last_ms)),
        queued_ms,
        next_ms,
    }
}

fn no_schedule(name: &Name) -> Answer {
    Answer::Refused { code: Code::NotFound, message: format!("there is no schedule {name}") }
}
