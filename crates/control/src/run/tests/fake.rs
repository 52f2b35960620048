//! Scripted guards and agents, and whoever watches.

use super::*;

/// What a scripted agent and guard do when they are told something.
pub(super) type Play = Box<dyn FnMut(&ToAgent, &mut Stage0) + Send>;

/// Where a play puts what agent and guard say, and when.
#[derive(Default)]
pub(super) struct Stage0 {
    pub(super) queue: VecDeque<(Instant, Word)>,
    pub(super) heard: Arc<Mutex<Heard>>,
    /// The line takes no more words.
    pub(super) cut: bool,
}

#[derive(Default)]
pub(super) struct Heard {
    pub(super) words: Vec<ToAgent>,
    pub(super) renewals: u32,
    pub(super) longest_pause: Duration,
    pub(super) last_renewal: Option<Instant>,
    pub(super) recovered_own: u32,
}

impl Stage0 {
    pub(super) fn word(&mut self, word: Word) {
        self.after(0, word);
    }

    pub(super) fn after(&mut self, milliseconds: u64, word: Word) {
        self.queue
            .push_back((Instant::now() + Duration::from_millis(milliseconds), word));
    }

    pub(super) fn event(&mut self, body: Body) {
        self.event_after(0, body);
    }

    pub(super) fn event_after(&mut self, milliseconds: u64, body: Body) {
        let boot_ns = boot_ns() + milliseconds * 1_000_000;
        self.after(
            milliseconds,
            Word::Agent(FromAgent::Event {
                boot_ns,
                body: Box::new(body),
            }),
        );
    }

    pub(super) fn step(
        &mut self,
        milliseconds: u64,
        reference: bool,
        kind: &str,
        step: u64,
        epoch: u64,
    ) {
        let event = TrainingEvent {
            kind: kind.into(),
            step: Some(step),
            epoch: Some(epoch),
            loss: Some(1.0 / step as f64),
            ..TrainingEvent::default()
        };
        let body = Body::Training {
            reference,
            rank: Some(0),
            restart: 0,
            pid: None,
            source: "hook".into(),
            event,
        };
        self.event_after(milliseconds, body);
    }
}

pub(super) struct FakeLink {
    pub(super) stage: Stage0,
    pub(super) play: Play,
}

impl Link for FakeLink {
    fn send(&mut self, word: &ToAgent) -> Result<(), LinkError> {
        if self.stage.cut {
            return Err(LinkError {
                to: "agent",
                source: std::io::ErrorKind::BrokenPipe.into(),
            });
        }
        self.stage
            .heard
            .lock()
            .expect("heard")
            .words
            .push(word.clone());
        (self.play)(word, &mut self.stage);
        Ok(())
    }

    fn renew(&mut self) -> Result<(), LinkError> {
        let mut heard = self.stage.heard.lock().expect("heard");
        heard.renewals += 1;
        let pause = heard
            .last_renewal
            .map_or(Duration::ZERO, |last| last.elapsed());
        heard.longest_pause = heard.longest_pause.max(pause);
        heard.last_renewal = Some(Instant::now());
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Option<Word> {
        let deadline = Instant::now() + wait;
        loop {
            let now = Instant::now();
            if let Some(at) = self.stage.queue.iter().position(|(due, _)| *due <= now) {
                return self.stage.queue.remove(at).map(|(_, word)| word);
            }
            if now >= deadline {
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(1).min(deadline - now));
        }
    }
}

/// What is done to the run folder when guard and agent start.
pub(super) type Prepare = Box<dyn FnMut(&RunId, &Path)>;

pub(super) struct FakeHost {
    pub(super) play: Option<Play>,
    pub(super) heard: Arc<Mutex<Heard>>,
    /// Done to the run folder when guard and agent start.
    pub(super) prepare: Prepare,
}

impl Host for FakeHost {
    fn recover_earlier(
        &mut self,
        _: &Path,
    ) -> std::io::Result<Vec<(PathBuf, Result<Recovered, RecoverError>)>> {
        Ok(Vec::new())
    }

    fn start(
        &mut self,
        run: &RunId,
        run_dir: &Path,
        _: Duration,
    ) -> Result<Box<dyn Link>, HostError> {
        (self.prepare)(run, run_dir);
        let stage = Stage0 {
            heard: self.heard.clone(),
            ..Stage0::default()
        };
        let play = self.play.take().expect("started once");
        Ok(Box::new(FakeLink { stage, play }))
    }

    fn recover_own(&mut self, run_dir: &Path) -> Result<Recovered, RecoverError> {
        self.heard.lock().expect("heard").recovered_own += 1;
        LocalHost::default().recover_own(run_dir)
    }
}

/// Watches, and may interrupt.
#[derive(Default)]
pub(super) struct Watcher {
    pub(super) stages: Vec<Stage>,
    pub(super) ticks: Vec<Live>,
    pub(super) remains: Vec<String>,
    pub(super) interrupt_at: Option<fn(&Body) -> bool>,
    pub(super) interrupt: Arc<Interrupt>,
}

impl Observer for Watcher {
    fn stage(&mut self, stage: Stage) {
        self.stages.push(stage);
    }
    fn tick(&mut self, live: &Live) {
        self.ticks.push(live.clone());
    }
    fn event(&mut self, event: &Event) {
        if self.interrupt_at.is_some_and(|at| at(&event.body)) {
            self.interrupt.raise("SIGINT");
        }
    }
    fn remains(&mut self, what: &str) {
        self.remains.push(what.to_owned());
    }
}
