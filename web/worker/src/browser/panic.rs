//! A panic in wasm is a bare trap; this puts its words on the console first.

use std::cell::RefCell;

type Listener = Box<dyn Fn(&str)>;

/// Installs the panic hook; call once at start. `also` receives the message, too, before the trap.
pub fn report(also: impl Fn(&str) + 'static) {
    // The hook has to be `Send` and `Sync`, which JavaScript objects are not. There is one thread.
    thread_local! {
        static ALSO: RefCell<Option<Listener>> = const { RefCell::new(None) };
    }
    ALSO.with(|slot| *slot.borrow_mut() = Some(Box::new(also)));
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        web_sys::console::error_1(&message.as_str().into());
        // A panic inside the hook would hide the first one.
        ALSO.with(|slot| {
            if let Ok(slot) = slot.try_borrow()
                && let Some(also) = &*slot
            {
                also(&message);
            }
        });
    }));
}
