//! Images: there already, or fetched.

use bollard::{Docker, auth::DockerCredentials, errors::Error, query_parameters::CreateImageOptions};
use futures::StreamExt;
use ostler_model::TypedError;

use super::{
    settings::{Pull, Settings},
    told, within,
};
use crate::call::Call;

/// Sees to it that the image is there.
pub(super) async fn make_ready(docker: &Docker, settings: &Settings, call: &Call) -> Result<(), TypedError> {
    let image = settings.image();
    if settings.pull() == Pull::Always {
        return fetch(docker, settings, call).await;
    }
    let looked = tokio::time::timeout(super::PATIENCE, docker.inspect_image(image)).await;
    match looked {
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => {}
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => return Err(told(&error)),
        Err(_) => return within(std::future::pending::<Result<(), Error>>()).await,
    }
    if settings.pull() == Pull::Never {
        let text = format!("the engine has no image `{image}`; fetch it before, or write `pull: missing`");
        return Err(TypedError::new("container.image", text));
    }
    fetch(docker, settings, call).await
}

async fn fetch(docker: &Docker, settings: &Settings, call: &Call) -> Result<(), TypedError> {
    let image = settings.image();
    let wrong = |why: &str| {
        TypedError::new("container.image", format!("`{image}` cannot be fetched: {}", why.trim()))
    };
    call.remark(&format!("fetching {image}"));
    let credentials = settings.login().map(|(user, password)| DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.to_owned()),
        serveraddress: Some(registry(image).to_owned()),
        ..Default::default()
    });
    let options = CreateImageOptions {
        from_image: Some(image.to_owned()),
        // Without a tag, Docker fetches all there are.
        tag: (!has_tag(image)).then(|| "latest".to_owned()),
        ..Default::default()
    };
    let mut news = docker.create_image(Some(options), None, credentials);
    while let Some(news) = news.next().await {
        match news {
            Ok(news) => {
                if let Some(why) = news.error_detail.and_then(|detail| detail.message) {
                    return Err(wrong(&why));
                }
            }
            Err(
                Error::DockerResponseServerError { message, .. }
                | Error::DockerStreamError { error: message },
            ) => {
                return Err(wrong(&message));
            }
            Err(error) => return Err(told(&error)),
        }
    }
    Ok(())
}

/// Whether a name ends with a tag or digest: a colon before the last slash is that of a port.
fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// The registry of an image: what stands before its first slash, when it looks like a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_have_their_parts() {
        for (image, tag, host) in [
            ("alpine", false, "https://index.docker.io/v1/"),
            ("library/alpine:3", true, "https://index.docker.io/v1/"),
            ("localhost/x", false, "localhost"),
            ("reg.example.org:5000/a/b", false, "reg.example.org:5000"),
            ("reg.example.org/a@sha256:00", true, "reg.example.org"),
        ] {
            assert_eq!((has_tag(image), registry(image)), (tag, host), "{image}");
        }
    }
}
