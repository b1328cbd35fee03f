/// Backends to look for adapters on.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::BROWSER_WEBGPU
}

/// The browser runs callbacks from its event loop; awaiting is enough.
pub(crate) fn drive_callbacks(_device: &wgpu::Device) -> Result<(), String> {
    Ok(())
}
