//! The bounded queue to the thread that owns the rules, and why that thread ended.

use crate::error::Error;
use oob_engine::{
    Input,
    effect::{Answer, CommandError},
    input::Command,
};
use std::{
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Commands and frames that may wait for the rules. A frame has at most 64 KiB, so this is at most 64 MiB; who comes
/// later waits in order, and a neighbour's stream is read no further meanwhile.
pub(crate) const QUEUE: usize = 1_024;

/// One thing to do for the thread that owns the rules.
#[derive(Debug)]
pub(crate) enum Work {
    /// A command whose caller waits.
    Command { command: Box<Command>, reply: oneshot::Sender<Result<Answer, CommandError>> },
    /// Something that happened.
    Input(Input),
    /// Answered once everything queued before it is durable and in the snapshot.
    Barrier(oneshot::Sender<()>),
    /// Commit what came before, close the store and end.
    Close,
    #[cfg(test)]
    Panic,
}

impl Work {
    /// How much of the queue it takes: frames count one by one.
    fn weight(&self) -> u32 {
        match self {
            Self::Input(Input::Frames { frames, .. }) => {
                u32::try_from(frames.len().clamp(1, QUEUE)).unwrap_or(1)
            }
            _ => 1,
        }
    }
}

/// Work and its share of the queue, given back when the work is taken out.
struct Queued {
    work: Work,
    _room: OwnedSemaphorePermit,
}

/// Where work is put. Cheap to clone; the rules' thread ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Commands {
    queue: SyncSender<Queued>,
    room: Arc<Semaphore>,
    fate: Arc<Fate>,
}

/// Where work comes out, on a thread that may block.
pub(crate) struct CommandQueue {
    queue: Receiver<Queued>,
}

/// What came out of the queue.
pub(crate) enum Next {
    Work(Work),
    /// Nothing until the time given.
    Nothing,
    /// Nobody can put anything in any more.
    Ended,
}

/// Why the rules stopped; unset while they run.
#[derive(Debug, Default)]
pub(crate) struct Fate(OnceLock<Error>);

impl Fate {
    /// Sets the reason; the first one stands.
    pub(crate) fn set(&self, error: Error) {
        let _ = self.0.set(error);
    }

    /// Returns what every later call answers.
    pub(crate) fn error(&self) -> Error {
        self.0.get().cloned().unwrap_or_else(Error::closed)
    }

    /// Returns why the rules stopped by themselves.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.0.get()
    }
}

/// Makes the queue.
pub(crate) fn queue(fate: Arc<Fate>) -> (Commands, CommandQueue) {
    // As many places as permits: whoever holds a permit finds a place, so putting never blocks a task.
    let (sender, receiver) = sync_channel(QUEUE);
    let room = Arc::new(Semaphore::new(QUEUE));
    (Commands { queue: sender, room, fate }, CommandQueue { queue: receiver })
}

impl Commands {
    /// Waits for room and puts work in.
    ///
    /// # Errors
    /// Why the rules stopped.
    pub(crate) async fn put(&self, work: Work) -> Result<(), Error> {
        let room = Arc::clone(&self.room)
            .acquire_many_owned(work.weight())
            .await
            .map_err(|_| self.fate.error())?;
        self.queue.try_send(Queued { work, _room: room }).map_err(|error| match error {
            TrySendError::Disconnected(_) => self.fate.error(),
            TrySendError::Full(_) => {
                Error::internal("the queue to the rules has no place for its permit")
            }
        })
    }

    /// Puts something that happened in.
    pub(crate) async fn input(&self, input: Input) -> Result<(), Error> {
        self.put(Work::Input(input)).await
    }

    /// Runs a command; its changes are durable when this returns.
    ///
    /// Dropped before it returns, the command may still run.
    pub(crate) async fn run(&self, command: Command) -> Result<Answer, Error> {
        Ok(self.try_run(command).await??)
    }

    /// As [`Commands::run`], with the refusal of the rules apart from the failure of the node.
    pub(crate) async fn try_run(
        &self,
        command: Command,
    ) -> Result<Result<Answer, CommandError>, Error> {
        self.begin(command).await?.answer().await
    }

    /// Puts a command in and does not wait for its answer: those begun one after the other are run in that order.
    pub(crate) async fn begin(&self, command: Command) -> Result<Begun, Error> {
        let (reply, answer) = oneshot::channel();
        self.put(Work::Command { command: Box::new(command), reply }).await?;
        Ok(Begun { answer, fate: Arc::clone(&self.fate) })
    }

    /// Waits until everything put in before is durable and in the snapshot.
    pub(crate) async fn barrier(&self) -> Result<(), Error> {
        let (sender, done) = oneshot::channel();
        self.put(Work::Barrier(sender)).await?;
        done.await.map_err(|_| self.fate.error())
    }

    /// Returns why the rules stopped.
    pub(crate) fn fate(&self) -> &Arc<Fate> {
        &self.fate
    }
}

/// A command that was put in.
#[derive(Debug)]
pub(crate) struct Begun {
    answer: oneshot::Receiver<Result<Answer, CommandError>>,
    fate: Arc<Fate>,
}

impl Begun {
    /// Waits for the answer; dropped before, the command runs all the same.
    pub(crate) async fn answer(self) -> Result<Result<Answer, CommandError>, Error> {
        let Self { answer, fate } = self;
        answer.await.map_err(|_| fate.error())
    }
}

impl CommandQueue {
    /// Blocks until there is work or the time is over.
    pub(crate) fn next(&self, within: Duration) -> Next {
        match self.queue.recv_timeout(within) {
            Ok(queued) => Next::Work(queued.work),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
        }
    }

    /// Returns what is there already.
    pub(crate) fn ready(&self) -> Next {
        match self.queue.try_recv() {
            Ok(queued) => Next::Work(queued.work),
            Err(TryRecvError::Empty) => Next::Nothing,
            Err(TryRecvError::Disconnected) => Next::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn a_full_queue_makes_the_caller_wait_and_an_ended_one_tells_why() {
        let fate = Arc::new(Fate::default());
        let (commands, queue) = queue(Arc::clone(&fate));
        for _ in 0..QUEUE {
            commands.input(Input::Tick).await.unwrap();
        }
        let mut late = Box::pin(commands.input(Input::Tick));
        assert!(futures::poll!(&mut late).is_pending());
        assert!(matches!(queue.ready(), Next::Work(Work::Input(Input::Tick))));
        late.await.unwrap();

        let waiting = tokio::spawn({
            let commands = commands.clone();
            async move { commands.barrier().await }
        });
        tokio::task::yield_now().await;
        fate.set(Error::internal("the rules stopped"));
        drop(queue);
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Internal, "the rules stopped")
        );
        assert_eq!(commands.run(Command::JoinShow).await.unwrap_err().kind(), ErrorKind::Internal);
    }
}
