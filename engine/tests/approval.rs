//! Before anything big is allocated or fetched, the host is shown the plan and may take its time, or decline.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::support::{engine_of, memory};
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::Testbed;
use gptoss_model::{Host, LoadProposal};
use gptoss_protocol::{Event, LoadOptions, MemoryPlan, Stage, StageStatus};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// Answers the question, and notes what was there when it came.
#[derive(Default)]
struct Asked {
    testbed: Rc<Testbed>,
    declines: bool,
    declined: Cell<bool>,
    /// Plan, bytes of GPU buffers, and stages that had begun.
    questions: RefCell<Vec<(MemoryPlan, u64, Vec<Stage>)>>,
    begun: RefCell<Vec<Stage>>,
    /// Loses the first device when the weights come.
    loses_a_device: Cell<bool>,
}

impl Host for Asked {
    fn emit(&self, event: Event) {
        if let Event::Stage { stage, status: StageStatus::Started, .. } = event {
            self.begun.borrow_mut().push(stage);
            if stage == Stage::WeightsFetch && self.loses_a_device.take() {
                self.testbed.lose_device();
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.declined.get()
    }

    fn approve<'a>(&'a self, proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        let begun = self.begun.borrow().clone();
        self.questions.borrow_mut().push((proposal.plan.clone(), self.testbed.allocated_bytes(), begun));
        self.declined.set(self.declines);
        Box::pin(std::future::ready(()))
    }
}

async fn load(host: &Asked) -> Result<GpuEngine, gptoss_model::StageError> {
    let gpu = GpuOptions { testbed: Some(Rc::clone(&host.testbed)), ..GpuOptions::default() };
    let options = LoadOptions { layers: Some(1), ..LoadOptions::default() };
    engine_of(memory("nano", MODEL), &gpu, &options, host).await
}

async fn the_plan_is_shown_before_anything_big() {
    let host = Asked::default();
    let engine = load(&host).await.expect("approved");
    let questions = host.questions.borrow();
    assert_eq!(questions.len(), 1);
    let (plan, allocated, begun) = &questions[0];
    assert_eq!((plan, *allocated), (&engine.model.plan().totals, 0));
    assert!(begun.contains(&Stage::MemoryPlan), "{begun:?}");
    let later = [Stage::Tokenizer, Stage::Kernels, Stage::SelfCheck, Stage::GpuMemory, Stage::WeightsFetch];
    assert!(later.iter().all(|stage| !begun.contains(stage)), "{begun:?}");
}

async fn declining_ends_the_load() {
    let host = Asked { declines: true, ..Asked::default() };
    let error = load(&host).await.err().expect("declined");
    assert!(error.is_cancelled() && error.stage == Stage::MemoryPlan, "{error}");
    assert_eq!((host.testbed.allocated_bytes(), host.questions.borrow().len()), (0, 1));
    assert!(!host.begun.borrow().contains(&Stage::WeightsFetch));
}

async fn a_lost_device_is_no_reason_to_ask_again() {
    let host = Asked { loses_a_device: Cell::new(true), ..Asked::default() };
    load(&host).await.expect("the second device is good");
    assert_eq!((host.testbed.devices_opened(), host.questions.borrow().len()), (2, 1));
}

everywhere!(shown, the_plan_is_shown_before_anything_big());
everywhere!(declined, declining_ends_the_load());
everywhere!(once, a_lost_device_is_no_reason_to_ask_again());
