//! Live subscribers: they are told of events on a stream, and asked about gates on it. One that says
//! nothing, or goes away, lets pass.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use uuid::Uuid;

use super::{HookEvent, answer::Answer, heard::Heard};
use crate::mutation::{Asked, ExtraSignal, now_millis};

/// Questions that may wait in a stream whose client does not read.
const QUESTIONS_LIMIT: usize = 64;

/// Time for an answer that came in time to be recorded.
const RECORDING: Duration = Duration::from_secs(5);

/// Bytes of a payload that a message to a subscriber has room for.
const PAYLOAD_LIMIT: usize = 1024 * 1024;

/// An event on its way to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The event's id; of a gate, this subscriber's alone.
    pub id: Uuid,
    /// Its name.
    pub event: String,
    /// Its payload, a JSON object.
    pub payload: Arc<str>,
    /// When it was emitted, in milliseconds since the Unix epoch.
    pub emitted_ms: i64,
}

/// All open streams, and the questions that nobody has answered yet.
#[derive(Default)]
pub(super) struct Subscribers {
    open: Mutex<Open>,
    unanswered: Mutex<HashMap<Uuid, Unanswered>>,
    heard: Heard,
}

#[derive(Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, Subscriber>,
}

#[derive(Debug, Clone)]
struct Subscriber {
    name: String,
    events: Vec<HookEvent>,
    timeout: Option<Duration>,
    questions: mpsc::Sender<Delivery>,
    position: Arc<AtomicI64>,
}

#[derive(Debug)]
struct Unanswered {
    subscriber: u64,
    name: String,
    event: HookEvent,
    answer: oneshot::Sender<Answer>,
}

/// A place among the subscribers, until it is dropped.
pub(super) struct Seat {
    subscribers: Arc<Subscribers>,
    id: u64,
    pub(super) questions: mpsc::Receiver<Delivery>,
    /// The last notice that the stream has delivered.
    pub(super) position: Arc<AtomicI64>,
}

/// A question that somebody is about to answer. Unless the answer is given, the question goes back.
pub(super) struct Claim {
    subscribers: Arc<Subscribers>,
    id: Uuid,
    question: Option<Unanswered>,
}

impl Subscribers {
    pub(super) fn hear(&self, event: HookEvent) -> bool {
        self.heard.has(event)
    }

    /// A stream is opened, after the notice at `position`.
    pub(super) fn sit(
        self: &Arc<Self>,
        name: String,
        events: Vec<HookEvent>,
        timeout: Option<Duration>,
        position: i64,
    ) -> Seat {
        let (questions, asked) = mpsc::channel(QUESTIONS_LIMIT);
        let position = Arc::new(AtomicI64::new(position));
        let subscriber = Subscriber {
            name,
            events,
            timeout,
            questions,
            position: Arc::clone(&position),
        };
        let mut open = self.open();
        let id = open.next;
        open.next += 1;
        open.streams.insert(id, subscriber);
        self.count(&open);
        Seat {
            subscribers: Arc::clone(self),
            id,
            questions: asked,
            position,
        }
    }

    /// Asks everybody who listens, all at once. The first veto decides.
    pub(super) async fn ask(
        self: &Arc<Self>,
        asked: &Asked,
        usual_timeout: Duration,
    ) -> Result<Vec<ExtraSignal>, (String, String)> {
        let payload = for_a_message(&asked.payload);
        let mut questions = JoinSet::new();
        for (id, subscriber) in self.listening(asked.event) {
            let timeout = subscriber.timeout.unwrap_or(usual_timeout);
            let question = self.question(id, &subscriber, asked.event, &payload);
            let name = subscriber.name;
            questions.spawn(async move {
                let Some(mut question) = question else {
                    return (name, Answer::Pass(Vec::new()));
                };
                // Silent in its time, or gone: it passes.
                let answer = question.answer_within(timeout).await;
                (name, answer.unwrap_or(Answer::Pass(Vec::new())))
            });
        }
        let mut signals = Vec::new();
        while let Some(answered) = questions.join_next().await {
            match answered {
                Ok((_, Answer::Pass(more))) => signals.extend(more),
                Ok((name, Answer::Veto(reason))) => return Err((name, reason)),
                Err(failed) => tracing::error!("a subscriber could not be asked: {failed}"),
            }
        }
        Ok(signals)
    }

    /// Puts a question on a subscriber's stream, unless there is no room on it.
    fn question(
        self: &Arc<Self>,
        subscriber: u64,
        to: &Subscriber,
        event: HookEvent,
        payload: &Arc<str>,
    ) -> Option<Question> {
        let id = Uuid::new_v4();
        let (answer, answered) = oneshot::channel();
        let unanswered = Unanswered {
            subscriber,
            name: to.name.clone(),
            event,
            answer,
        };
        self.unanswered().insert(id, unanswered);
        let question = Question {
            subscribers: Arc::clone(self),
            id,
            answer: answered,
        };
        let delivery = Delivery {
            id,
            event: event.name().to_owned(),
            payload: Arc::clone(payload),
            emitted_ms: now_millis(),
        };
        match to.questions.try_send(delivery) {
            Ok(()) => Some(question),
            Err(_) => {
                tracing::warn!(
                    subscriber = to.name,
                    event = event.name(),
                    "a subscriber does not read, and is not asked"
                );
                None
            }
        }
    }

    /// Who was asked, about what, where somebody waits for the answer.
    pub(super) fn asked(&self, id: Uuid) -> Option<(String, HookEvent)> {
        let unanswered = self.unanswered();
        let question = unanswered.get(&id)?;
        Some((question.name.clone(), question.event))
    }

    /// Takes a question to answer it; `None` when nobody waits for an answer to it any more.
    pub(super) fn claim(self: &Arc<Self>, id: Uuid) -> Option<Claim> {
        let question = self.unanswered().remove(&id)?;
        Some(Claim {
            subscribers: Arc::clone(self),
            id,
            question: Some(question),
        })
    }

    /// The notice that every stream has delivered, when there is a stream.
    pub(super) fn slowest(&self) -> Option<i64> {
        let open = self.open();
        let positions = open.streams.values();
        positions.map(|s| s.position.load(Ordering::SeqCst)).min()
    }

    fn listening(&self, event: HookEvent) -> Vec<(u64, Subscriber)> {
        let open = self.open();
        let hears = |s: &Subscriber| s.events.is_empty() || s.events.contains(&event);
        let listening = open.streams.iter().filter(|(_, s)| hears(s));
        listening.map(|(id, s)| (*id, s.clone())).collect()
    }

    fn count(&self, open: &Open) {
        self.heard
            .set(open.streams.values().map(|s| s.events.as_slice()));
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unanswered(&self) -> MutexGuard<'_, HashMap<Uuid, Unanswered>> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.subscribers.open();
        open.streams.remove(&self.id);
        self.subscribers.count(&open);
        drop(open);
        // Whoever waits for its answers need not wait any longer.
        let mut unanswered = self.subscribers.unanswered();
        unanswered.retain(|_, question| question.subscriber != self.id);
    }
}

/// A question that is waited for; once it is not, an answer to it comes late.
struct Question {
    subscribers: Arc<Subscribers>,
    id: Uuid,
    answer: oneshot::Receiver<Answer>,
}

impl Question {
    async fn answer_within(&mut self, time: Duration) -> Option<Answer> {
        if let Ok(said) = tokio::time::timeout(time, &mut self.answer).await {
            return said.ok();
        }
        if self.subscribers.unanswered().remove(&self.id).is_some() {
            return None;
        }
        // An answer that came in time is being recorded.
        let said = tokio::time::timeout(RECORDING, &mut self.answer).await;
        said.ok()?.ok()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // Closed first: a claim that goes back looks at that, behind the same lock.
        self.answer.close();
        self.subscribers.unanswered().remove(&self.id);
    }
}

impl Claim {
    /// Answers it; false when nobody waits for it any more.
    pub(super) fn answer(&mut self, answer: Answer) -> bool {
        let question = self.question.take();
        question.is_some_and(|question| question.answer.send(answer).is_ok())
    }

    /// Whether somebody waits for the answer.
    pub(super) fn is_waited_for(&self) -> bool {
        self.question
            .as_ref()
            .is_some_and(|q| !q.answer.is_closed())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(question) = self.question.take() else {
            return;
        };
        let mut unanswered = self.subscribers.unanswered();
        if !question.answer.is_closed() {
            unanswered.insert(self.id, question);
        }
    }
}

/// A payload that fits a message. Only a list of paths can be longer: then it is cut, and says so.
fn for_a_message(payload: &Arc<str>) -> Arc<str> {
    use serde_json::Value;

    if payload.len() <= PAYLOAD_LIMIT {
        return Arc::clone(payload);
    }
    let Ok(Value::Object(mut object)) = serde_json::from_str(payload) else {
        return Arc::clone(payload);
    };
    let lists: usize = object.values().filter(|v| v.is_array()).count().max(1);
    for value in object.values_mut() {
        if let Value::Array(items) = value {
            let mut left = PAYLOAD_LIMIT / 2 / lists;
            let fits = |item: &&Value| {
                let bytes = item.to_string().len() + 1;
                left.checked_sub(bytes).map(|rest| left = rest).is_some()
            };
            let kept = items.iter().take_while(fits).count();
            items.truncate(kept);
        }
    }
    object.insert("truncated".to_owned(), Value::Bool(true));
    Value::Object(object).to_string().into()
}
