//! What goes on inside the model: where its bytes are in the file and which of them are being read, which experts are on the
//! GPU, which of them a token chose, and what its attention looked at. What costs a read-back is told only to those who
//! [`Watch`].

use serde::{Deserialize, Serialize};

/// What somebody looks at right now, of that which is not told unasked. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// The experts that the router of each layer chose: [`crate::Event::Routes`].
    pub routes: bool,
    /// The norm of the residual stream after each layer: [`crate::Event::Residual`].
    pub residual: bool,
    /// The attention of one head: [`crate::Event::Attention`].
    pub attention: Option<Head>,
    /// The time that each operation takes on the GPU: [`crate::Event::OperationTimes`].
    pub times: bool,
}

/// One attention head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Layer of the head, from 0 on.
    pub layer: u32,
    /// Query head within the layer, from 0 on.
    pub head: u32,
}

/// Where the tensors are in the file: what a range of bytes belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileMap {
    /// Length of the file; of a split model, of all files one after the other.
    pub file_bytes: u64,
    /// Bytes before the first tensor.
    pub header_bytes: u64,
    /// Tensors in the order of their offsets.
    pub tensors: Vec<TensorPlace>,
}

/// One tensor's place in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorPlace {
    /// Name of the tensor in the file, such as `blk.0.ffn_up_exps.weight`.
    pub name: String,
    /// Name of its format in the file, such as `MXFP4`.
    pub format: String,
    /// First byte, counted from the beginning of the file.
    pub offset_bytes: u64,
    /// Length of the tensor in the file.
    pub bytes: u64,
    /// Layer whose experts it has, one after the other, each of the same length; `None` for a tensor that every token needs.
    #[serde(default)]
    pub experts_of_layer: Option<u32>,
}

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    /// First byte.
    pub offset_bytes: u64,
    /// Length of the part.
    pub bytes: u64,
}

/// Reads of the file for the GPU, since the last such event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// Reads that are under way now.
    pub under_way: Vec<FileRange>,
    /// Reads that ended, their bytes put where they belong.
    #[serde(default)]
    pub arrived: Vec<FileRange>,
}

/// An expert of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct ExpertPlace {
    /// Layer, from 0 on.
    pub layer: u32,
    /// Expert within the layer, from 0 on.
    pub expert: u32,
}

impl From<(u32, u32)> for ExpertPlace {
    fn from((layer, expert): (u32, u32)) -> Self {
        Self { layer, expert }
    }
}

impl From<ExpertPlace> for (u32, u32) {
    fn from(place: ExpertPlace) -> Self {
        (place.layer, place.expert)
    }
}

/// How experts moved since the last such event. An expert that is in several lists went through them in this order. What was
/// on the GPU is forgotten with [`crate::Event::Recovering`] and [`crate::Event::Unloaded`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExpertMoves {
    /// Experts that gave up their slot for another, or whose bytes will not come.
    pub evicted: Vec<ExpertPlace>,
    /// Experts that a batch needed and that were not there; they may have been on their way, and may have come since.
    pub missed: Vec<ExpertPlace>,
    /// Experts that have a slot, and whose bytes are on their way.
    pub awaited: Vec<ExpertPlace>,
    /// Experts that are on the GPU now.
    pub arrived: Vec<ExpertPlace>,
}

/// The experts that a batch of tokens was routed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// Position of the batch's last token in its sequence, from 0 on.
    pub position: u32,
    /// Tokens of the batch: 1 while an answer is written.
    pub tokens: u32,
    /// For each layer that runs, the experts that at least one of the tokens chose, in ascending order.
    pub layers: Vec<Vec<Route>>,
}

/// An expert that was chosen, and how much of the result is its.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, f32)", into = "(u32, u32, f32)")]
pub struct Route {
    /// Expert within the layer.
    pub expert: u32,
    /// Tokens of the batch that chose it.
    pub tokens: u32,
    /// Sum of the routing weights that these tokens gave it; the weights of one token sum to 1 over the experts it chose.
    pub weight: f32,
}

impl From<(u32, u32, f32)> for Route {
    fn from((expert, tokens, weight): (u32, u32, f32)) -> Self {
        Self { expert, tokens, weight }
    }
}

impl From<Route> for (u32, u32, f32) {
    fn from(route: Route) -> Self {
        (route.expert, route.tokens, route.weight)
    }
}

/// How large the residual stream of a batch's last token is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// Position of that token in its sequence, from 0 on.
    pub position: u32,
    /// Euclidean norms: of the embedding, and after each layer that runs.
    pub norms: Vec<f32>,
}

/// What one head looked at, for a batch's last token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionRow {
    /// The head.
    pub head: Head,
    /// Position of the token that looks, from 0 on.
    pub position: u32,
    /// Position of the key that the first weight is of: not 0 in layers with sliding attention.
    pub first_position: u32,
    /// Softmax weights of the keys up to the token itself; with `sink` they sum to 1.
    pub weights: Vec<f32>,
    /// Weight that went to the sink, and so to no key.
    pub sink: f32,
}

/// Time on the GPU of one operation in a batch, all its dispatches together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationTime {
    /// Name of the kernel.
    pub operation: String,
    /// How often it was dispatched.
    pub dispatches: u32,
    /// How long that took, by the GPU's own clock.
    pub elapsed_ms: f64,
}

/// How the KV cache is used, of all sequences together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvBlocks {
    /// Positions whose keys and values a block has.
    pub block_tokens: u32,
    /// Blocks of the layers that see all positions.
    pub full: PlacesInUse,
    /// Blocks of the layers with a window.
    pub sliding: PlacesInUse,
    /// Sequences that can be open.
    pub sequences: PlacesInUse,
}

/// Places of one kind. Those that are neither busy nor idle nor free would be lost: there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacesInUse {
    /// All of them.
    pub places: u32,
    /// Those that answers under way use.
    pub busy: u32,
    /// Those that hold a conversation that no answer is under way in, for whoever goes on with it.
    pub idle: u32,
    /// Those that nothing uses.
    pub free: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_places_are_short_on_the_wire() {
        let routes = Routes { position: 7, tokens: 1, layers: vec![vec![(3, 1, 0.5).into()]] };
        let json = serde_json::to_string(&routes).expect("JSON");
        assert_eq!(json, r#"{"position":7,"tokens":1,"layers":[[[3,1,0.5]]]}"#);
        assert_eq!(serde_json::from_str::<Routes>(&json).expect("it was written just now"), routes);
        let moves = ExpertMoves { arrived: vec![(2, 31).into()], ..ExpertMoves::default() };
        let json = serde_json::to_string(&moves).expect("JSON");
        assert_eq!(serde_json::from_str::<ExpertMoves>(&json).expect("it was written just now"), moves);
        assert_eq!(
            serde_json::from_str::<ExpertMoves>(r#"{"arrived":[[2,31]]}"#).expect("the others are empty"),
            moves
        );
    }
}
