//! Walking through the steps of a scene's call: at each one the call is made anew, and something is
//! done to it there.

use tempfile::TempDir;
use tonic::Status;
use uuid::Uuid;

use crate::{
    fault::{Act, Fault, Hit},
    harness::Daemon,
    scenes::Scene,
};

/// More steps than any call has: a walk that gets here does not end.
const TOO_MANY: u32 = 1000;

/// A walk that is under way.
pub struct Walk<'a> {
    scene: &'a Scene,
    fault: Fault,
    act: Act,
    step: u32,
    stride: u32,
    /// Where it is controlled from: not on a disk that loses power or is full.
    _control: TempDir,
}

/// A call that something was done to.
pub struct Cut {
    /// The daemon that was called, or what is left of it.
    pub daemon: Daemon,
    /// The call's key.
    pub key: Uuid,
    /// What it was answered.
    pub answer: Result<Vec<u8>, Status>,
    /// The step.
    pub step: u32,
    /// What it was about to do there.
    pub hit: Hit,
}

impl<'a> Walk<'a> {
    /// Does `act` at those steps that are `of` apart, from step `from` on, and at each of the last
    /// ones: few come after the commit, and a stride may pass over all of them. `None`, and said so,
    /// where nothing can be done to a daemon.
    pub fn new(test: &str, scene: &'a Scene, act: Act, (from, of): (u32, u32)) -> Option<Self> {
        let control = tempfile::Builder::new().prefix("hdl").tempdir().unwrap();
        let fault = Fault::beside(test, control.path(), &scene.repo.around())?;
        Some(Self {
            scene,
            fault,
            act,
            step: from,
            stride: of,
            _control: control,
        })
    }

    /// Makes the call once more, up to the next step; `None` when there is none left.
    pub async fn next(&mut self) -> Option<Cut> {
        let (scene, repo) = (self.scene, &self.scene.repo);
        loop {
            let step = self.step;
            assert!(step < TOO_MANY);
            scene.reset();
            let daemon = Daemon::spawn(self.fault.serve(repo));
            daemon.wait_for_line("serving");
            let channel = repo.channel().await;
            let key = Uuid::new_v4();
            self.fault.arm(self.act, step, scene.asked.kinds());
            let answer = scene.call(&channel, key).await;
            drop(channel);
            let hit = self.fault.hit();
            self.fault.disarm();
            if let Some(hit) = hit {
                self.step += self.stride;
                return Some(Cut {
                    daemon,
                    key,
                    answer,
                    step,
                    hit,
                });
            }
            // It was over before.
            answer.unwrap();
            if self.stride == 1 {
                return None;
            }
            self.step = (step + 1).saturating_sub(self.stride).max(1);
            self.stride = 1;
        }
    }
}
