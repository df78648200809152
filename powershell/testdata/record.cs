// Records the requests of the module's commands as .NET's own HttpClient writes them, one file each, with the calls of
// Connection.ps1: the same contents in the same order. Run it again when a command sends something else:
//
//   mcs -r:System.Net.Http -out:record.exe record.cs && mono record.exe ARTIFACT.exe DIRECTORY
//
// The tests put real ids and tokens in the place of the recorded ones.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading.Tasks;

static class Record
{
    const string Organization = "11111111-1111-1111-1111-111111111111";
    const string Request = "22222222-2222-2222-2222-222222222222";
    const string Policy = "33333333-3333-3333-3333-333333333333";
    const string Configuration = "44444444-4444-4444-4444-444444444444";
    const string Boundary = "5f0b6a8e-3c1d-4b5e-9a77-2d0c9b1e4f60";
    const string Key = "6a1c2d3e-4f50-4617-8293-a4b5c6d7e8f9";

    static string directory;

    static void Main(string[] arguments)
    {
        var artifact = File.ReadAllBytes(arguments[0]);
        directory = arguments[1];
        Post("submit-slugs", "SubmitWithArtifact", "TOKEN",
            Text("ProjectSlug", "app"), Text("SigningPolicySlug", "test-signing"), Text("ArtifactConfigurationSlug", "exe"),
            Text("Description", "Nightly build, größer"), File_("Artifact", "app.exe", artifact),
            Text("Parameters.version", "1.2.0"), Text("CancellationTimeoutInSeconds", "600"));
        Post("submit-ids", "SubmitWithArtifact", "TOKEN",
            Text("SigningPolicyId", Policy), Text("ArtifactConfigurationId", Configuration), Text("Description", ""),
            File_("Artifact", "größte app.exe", artifact));
        Post("submit-origin", "SubmitWithArtifact", "TOKEN:BUILDSYSTEM",
            Text("ProjectSlug", "app"), Text("SigningPolicySlug", "release-verified"), Text("Description", ""),
            File_("Artifact", "app.exe", artifact),
            File_("Origin.BuildData.BuildSettingsFile", "settings.json", Encoding.UTF8.GetBytes("{\"agent\":\"windows\"}\n")),
            Text("Origin.BuildData.Url", "https://ci.example.com/job/app/42"),
            Text("Origin.RepositoryData.BranchName", "main"),
            Text("Origin.RepositoryData.CommitId", "bf458b27080c81eb1e316c63867a87fdb3b47211"),
            Text("Origin.RepositoryData.SourceControlManagementType", "git"),
            Text("Origin.RepositoryData.Url", "https://github.com/acme/app"));
        Post("submit-no-file", "SubmitWithArtifact", "TOKEN",
            Text("ProjectSlug", "app"), Text("SigningPolicySlug", "test-signing"), Text("Description", ""));
        Post("submit-link", "SubmitWithArtifactRetrievalLink", "TOKEN",
            Text("ProjectSlug", "app"), Text("SigningPolicySlug", "test-signing"), Text("Description", ""),
            Text("ArtifactRetrievalLink.Url", "https://files.example.com/my+program.exe"),
            Text("ArtifactRetrievalLink.FileName", "my program.exe"),
            Text("ArtifactRetrievalLink.Sha256Hash", BitConverter.ToString(SHA256.Create().ComputeHash(artifact)).Replace("-", "")),
            Text("ArtifactRetrievalLink.HttpHeaders[0].Key", "Authorization"),
            Text("ArtifactRetrievalLink.HttpHeaders[0].Value", "Bearer files"));
        Post("resubmit", "Resubmit", "TOKEN",
            Text("OriginalSigningRequestId", Request), Text("SigningPolicySlug", "release-signing"), Text("Description", "Tested"));
        Get("get-request", Request);
        Get("get-signed-artifact", Request + "/SignedArtifact");
    }

    class Part { public string Name, FileName; public HttpContent Content; }

    static Part Text(string name, string value)
    {
        return new Part { Name = name, Content = new StringContent(value) };
    }

    static Part File_(string name, string fileName, byte[] bytes)
    {
        var content = new StreamContent(new MemoryStream(bytes), 128 * 1024);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        return new Part { Name = name, FileName = fileName, Content = content };
    }

    static void Post(string file, string path, string token, params Part[] parts)
    {
        var form = new MultipartFormDataContent(Boundary);
        foreach (var part in parts)
        {
            if (part.FileName == null) form.Add(part.Content, part.Name);
            else form.Add(part.Content, part.Name, part.FileName);
        }
        Send(file, HttpMethod.Post, path, token, form);
    }

    static void Get(string file, string path)
    {
        Send(file, HttpMethod.Get, path, "TOKEN", null);
    }

    static void Send(string file, HttpMethod method, string path, string token, HttpContent content)
    {
        var listener = new TcpListener(IPAddress.Loopback, 8080);
        listener.Start();
        var recorded = Task.Run(() => Accept(listener));
        using (var client = new HttpClient())
        {
            client.DefaultRequestHeaders.ExpectContinue = false;
            client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
            client.DefaultRequestHeaders.TryAddWithoutValidation("User-Agent", "Countersign-PowerShell/1.0.0");
            var request = new HttpRequestMessage(method, "http://127.0.0.1:8080/Api/v1/" + Organization + "/SigningRequests/" + path);
            request.Content = content;
            if (content != null) request.Headers.TryAddWithoutValidation("Idempotency-Key", Key);
            client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead).Result.Dispose();
        }
        File.WriteAllBytes(Path.Combine(directory, file + ".http"), recorded.Result);
        listener.Stop();
    }

    // Reads one request, as its Content-Length says, and answers it.
    static byte[] Accept(TcpListener listener)
    {
        using (var connection = listener.AcceptTcpClient())
        {
            var stream = connection.GetStream();
            var all = new List<byte>();
            var buffer = new byte[65536];
            var wanted = -1;
            while (wanted < 0 || all.Count < wanted)
            {
                var read = stream.Read(buffer, 0, buffer.Length);
                if (read == 0) break;
                for (var i = 0; i < read; i++) all.Add(buffer[i]);
                var text = Encoding.GetEncoding("ISO-8859-1").GetString(all.ToArray());
                var end = text.IndexOf("\r\n\r\n");
                if (wanted >= 0 || end < 0) continue;
                var length = Regex.Match(text.Substring(0, end), "(?i)\r\nContent-Length: (\\d+)");
                wanted = end + 4 + (length.Success ? int.Parse(length.Groups[1].Value) : 0);
            }
            var reply = Encoding.ASCII.GetBytes("HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.Write(reply, 0, reply.Length);
            return all.ToArray();
        }
    }
}
