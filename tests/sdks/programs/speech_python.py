"""deepgram-sdk (environment object, first argument is its URL) and assemblyai (variable)."""

import sys

import assemblyai
from deepgram import DeepgramClient
from deepgram.environment import DeepgramClientEnvironment
from surfaces import DENIED, LIMITED, UPLOAD, digest, surface

url = sys.argv[1]
place = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)
client = DeepgramClient(environment=place)


@surface
def deepgram_upload():
    made = client.listen.v1.media.transcribe_file(request=UPLOAD, model="nova-3")
    return made.results.channels[0].alternatives[0].transcript


@surface
def deepgram_download():
    return digest(b"".join(client.speak.v1.audio.generate(text="hi")))


@surface
def deepgram_denied():
    DeepgramClient(environment=place, api_key=DENIED).manage.v1.projects.list()


@surface
def deepgram_limited():
    wrong = DeepgramClient(environment=place, api_key=LIMITED)
    wrong.listen.v1.media.transcribe_file(request=UPLOAD, model="nova-3")


@surface
def assemblyai_upload():
    return assemblyai.Transcriber().upload_file(UPLOAD)


@surface
def assemblyai_plain():
    return assemblyai.Transcript.get_by_id("fake1").text


@surface
def assemblyai_pages():
    return [found.id for found in assemblyai.Transcriber().list_transcripts().transcripts]


@surface
def assemblyai_denied():
    assemblyai.settings.api_key = DENIED
    assemblyai.Transcript.get_by_id("fake1")
