//! The catalogue over time: files come and go while the server runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use gptoss_finder::Links;

use super::search::Search;
use super::{Catalogue, CatalogueError};

/// Folders are not searched more often than this, whoever asks.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

type NameTest = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The current catalogue, and the means to make the next one.
pub(crate) struct Shelf {
    paths: Vec<PathBuf>,
    links: Links,
    /// Names that are taken by other parts of the server.
    is_taken: NameTest,
    current: RwLock<Arc<Catalogue>>,
    searched: Mutex<Instant>,
}

impl Shelf {
    /// Opens everything that the paths lead to, by the links that may be followed; the bundled demo model if there are
    /// none. Blocks.
    ///
    /// # Errors
    /// If a path cannot be served, or there is no model in any.
    pub(crate) fn open(paths: Vec<PathBuf>, links: Links, is_taken: NameTest) -> Result<Self, CatalogueError> {
        let before = Catalogue::default();
        let mut search = Search::new(&before, links);
        if paths.is_empty() {
            search.add_demo();
        }
        for path in &paths {
            search.add(path)?;
        }
        if search.found.is_empty() {
            let folders = paths.iter().map(|path| path.display().to_string()).collect();
            return Err(CatalogueError::Empty { folders, notes: search.notes });
        }
        let catalogue = Catalogue::index(search.found, search.notes, &is_taken);
        let searched = Mutex::new(Instant::now());
        Ok(Self { paths, links, is_taken, current: RwLock::new(Arc::new(catalogue)), searched })
    }

    /// The catalogue as it was last made.
    pub(crate) fn current(&self) -> Arc<Catalogue> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The catalogue after another look at the paths, unless the last one was a moment ago. Blocks.
    pub(crate) fn searched_again(&self) -> Arc<Catalogue> {
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        if searched.elapsed() < SEARCH_INTERVAL {
            return before;
        }
        let mut search = Search::new(&before, self.links);
        if self.paths.is_empty() {
            search.add_demo();
        }
        for path in &self.paths {
            // At start this would have been an error; now the rest is still worth serving.
            if let Err(error) = search.add(path) {
                search.notes.push(error.to_string());
            }
        }
        let mut catalogue = Catalogue::index(search.found, search.notes, &self.is_taken);
        catalogue.inherit(&before);
        let catalogue = Arc::new(catalogue);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&catalogue);
        *searched = Instant::now();
        catalogue
    }
}
