//! The models that are served, and which of them a request is for.

use std::sync::Arc;

use gptoss_protocol::{Command, Event, Prompt};

use crate::engine::{Engine, UnderWay};
use crate::error::ApiError;
use crate::record::current;
use crate::served::Served;
use crate::server::Engaged;
use crate::tunnel::Hub;

/// A model, as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Its id in `/v1/models`. No two models that are served have an id or an alias in common, in upper or lower case.
    pub id: String,
    /// Other names that requests may have; upper and lower case are one.
    pub aliases: Vec<String>,
    /// Tokens that a sequence has room for.
    pub context_tokens: u32,
}

impl ModelCard {
    /// Its id, and its other names.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.id).chain(&self.aliases)
    }
}

/// What computes, as whoever watches over the server wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineCard {
    /// The device, in words.
    pub device: String,
    /// Size of the KV cache, of all sequences together.
    pub kv_bytes: u64,
    /// Memory of the GPU that was planned for everything; `None` where no GPU computes.
    pub gpu_bytes: Option<u64>,
}

/// A model that is to be served, with the engine that has it.
pub struct ServedModel<A> {
    /// What clients are told of it.
    pub card: ModelCard,
    /// What is told of its engine.
    pub engine_card: EngineCard,
    /// Tokens of its vocabulary: their ids are below this.
    pub vocabulary: u32,
    /// What computes it, and nothing else.
    pub engine: Engine<A>,
}

/// A model, and what the server keeps for it.
pub(crate) struct Model<A> {
    pub card: ModelCard,
    pub engine_card: EngineCard,
    pub engine: Engine<A>,
    vocabulary: u32,
    /// Turns that it wrote. Their tokens mean nothing to another model.
    pub served: Served,
    pub hub: Arc<Hub<A>>,
    room: Arc<Room<A>>,
}

impl<A: Engaged> Model<A> {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.card.id
    }

    /// Asks the engine, unless too many do.
    pub fn ask(&self, prompt: Prompt) -> Result<UnderWay<A>, ApiError> {
        check_ids(&prompt, self.vocabulary)?;
        match self.room.full() {
            Some(open) => Err(ApiError::busy(open)),
            None => Ok(self.engine.ask(prompt)),
        }
    }

    /// The tokens of a prompt. Does not wait for answers.
    pub async fn count(&self, prompt: Prompt) -> Result<u32, ApiError> {
        let mut under_way = self.engine.begin(Command::Count { prompt }, A::default());
        while let Some(event) = under_way.next().await {
            match event {
                Event::Counted { tokens } => return Ok(tokens),
                Event::Failed { failure, .. } => return Err(ApiError::engine(&failure)),
                _ => {}
            }
        }
        Err(ApiError::internal("the engine ended without an answer"))
    }

    /// Requests of it that are answered or wait.
    pub fn open_requests(&self) -> usize {
        self.engine.open_requests()
    }

    /// Requests of it that wait for their turn.
    pub fn waiting_requests(&self) -> usize {
        self.open_requests().saturating_sub(self.engine.metrics().answering() as usize)
    }
}

/// Refuses ids of tokens that there are none of, by the field that has them.
fn check_ids(prompt: &Prompt, vocabulary: u32) -> Result<(), ApiError> {
    let biased: Vec<u32> = prompt.logits.bias.iter().map(|(id, _)| *id).collect();
    for (field, ids) in [("logit_bias", &biased), ("prompt", &prompt.ids.prompt), ("stop_token_ids", &prompt.ids.stop)]
    {
        if let Some(id) = ids.iter().find(|id| **id >= vocabulary) {
            let last = vocabulary.saturating_sub(1);
            let message = format!("{field} has {id}, expected ids of tokens of this model, which are 0 to {last}");
            return Err(ApiError::invalid(field, message));
        }
    }
    Ok(())
}

/// Requests that are answered or wait at the same time, of all models together.
pub(crate) struct Room<A> {
    engines: Vec<Engine<A>>,
    most: usize,
}

impl<A: Engaged> Room<A> {
    /// How many there are, if there may be no more.
    pub fn full(&self) -> Option<usize> {
        let open = self.engines.iter().map(Engine::open_requests).sum();
        (open >= self.most).then_some(open)
    }
}

/// All models; there is one at least.
pub(crate) struct Models<A> {
    models: Vec<Arc<Model<A>>>,
}

impl<A: Engaged> Models<A> {
    /// These models, for as many requests at the same time; watchers have to bring `key`, if there is one.
    ///
    /// # Panics
    /// There is none.
    pub fn new(offered: Vec<ServedModel<A>>, most: usize, key: Option<&serve_kit::token::Secret>) -> Self {
        assert!(!offered.is_empty(), "a server has a model");
        let engines = offered.iter().map(|model| model.engine.clone()).collect();
        let room = Arc::new(Room { engines, most });
        let model = |ServedModel { card, engine_card, vocabulary, engine }| {
            let hub = Arc::new(Hub::new(&engine, &card, Arc::clone(&room), key.cloned()));
            let (served, room) = (Served::default(), Arc::clone(&room));
            Arc::new(Model { card, engine_card, engine, vocabulary, served, hub, room })
        };
        Self { models: offered.into_iter().map(model).collect() }
    }

    /// All of them, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model<A>>> {
        self.models.iter()
    }

    /// The one that is meant where nothing says which.
    pub fn first(&self) -> &Arc<Model<A>> {
        &self.models[0]
    }

    /// The model of this id or alias, or the first where nothing says which.
    pub fn find(&self, wanted: Option<&str>) -> Result<&Arc<Model<A>>, ApiError> {
        let Some(wanted) = wanted else { return Ok(self.first()) };
        let is_wanted = |model: &&Arc<Model<A>>| model.card.names().any(|known| known.eq_ignore_ascii_case(wanted));
        self.models.iter().find(is_wanted).ok_or_else(|| {
            let names = self.models.iter().flat_map(|model| model.card.names());
            let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
            ApiError {
                param: Some("model".into()),
                code: Some("model_not_found"),
                ..ApiError::not_found(format!(
                    "model is {wanted:?}, and this server has {}; --alias gives it further names",
                    names.join(", ")
                ))
            }
        })
    }

    /// The model that the request of the present task is for, which its record is told.
    pub fn asked(&self, wanted: Option<&str>) -> Result<Arc<Model<A>>, ApiError> {
        let model = self.find(wanted)?;
        if let Some(record) = current() {
            record.asked(model.id());
        }
        Ok(Arc::clone(model))
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{LogitChanges, PromptIds};

    use super::*;

    #[test]
    fn ids_that_no_token_has_are_refused_by_their_field() {
        let prompt = |bias: u32, prompt: u32, stop: u32| Prompt {
            logits: Box::new(LogitChanges { bias: vec![(1, 0.5), (bias, 0.5)], ..LogitChanges::default() }),
            ids: Box::new(PromptIds { prompt: vec![1, prompt], stop: vec![1, stop] }),
            ..Prompt::default()
        };
        assert_eq!(check_ids(&prompt(99, 99, 99), 100), Ok(()));
        for (prompt, field) in
            [(prompt(100, 1, 1), "logit_bias"), (prompt(1, 100, 1), "prompt"), (prompt(1, 1, 100), "stop_token_ids")]
        {
            let error = check_ids(&prompt, 100).expect_err(field);
            assert_eq!(error.param.as_deref(), Some(field));
            assert_eq!(
                error.message,
                format!("{field} has 100, expected ids of tokens of this model, which are 0 to 99")
            );
        }
    }
}
